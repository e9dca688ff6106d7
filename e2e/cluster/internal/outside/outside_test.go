package outside

import (
	"io"
	"net"
	"testing"
)

// connect returns a connection through forward to a server, and the server's end of it.
func connect(t *testing.T) (client, server *net.TCPConn) {
	t.Helper()
	listen := func() *net.TCPListener {
		listener, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = listener.Close() })
		return listener
	}
	front, back := listen(), listen()
	go func() { _ = forward(front, back.Addr().String()) }() // ends with an error when the test closes its listener
	client, err := net.DialTCP("tcp", nil, front.Addr().(*net.TCPAddr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	server, err = back.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	return client, server
}

func TestAHalfClosedConnectionStillCarriesTheOtherHalf(t *testing.T) {
	client, server := connect(t)
	if _, err := client.Write([]byte("question")); err != nil {
		t.Fatal(err)
	}
	if err := client.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	question, err := io.ReadAll(server) // ends only if the close was passed on
	if err != nil || string(question) != "question" {
		t.Fatalf("the server read %q, %v", question, err)
	}
	if _, err := server.Write([]byte("answer")); err != nil {
		t.Fatal(err)
	}
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	if answer, err := io.ReadAll(client); err != nil || string(answer) != "answer" {
		t.Errorf("the client read %q, %v", answer, err)
	}
}

func TestAServerThatIsDownClosesTheConnectionAndTheNextOneIsStillAccepted(t *testing.T) {
	front, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer front.Close()
	nobody, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	address := nobody.Addr().String()
	if err := nobody.Close(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = forward(front, address) }() // ends with an error when the test closes its listener
	for range 2 {
		client, err := net.Dial("tcp", front.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if content, err := io.ReadAll(client); err != nil || len(content) > 0 {
			t.Errorf("read %q, %v", content, err)
		}
		if err := client.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
