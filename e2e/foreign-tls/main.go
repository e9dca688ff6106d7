// Command foreign-tls is a peer of the mesh by a TLS stack that shares nothing with ours: Go's crypto/tls and crypto/x509.
// The tests of proxy/ and operator/ run it. It says what it sees, a line for each fact, and leaves judging to them.
//
//	foreign-tls verify ROOTS CHAIN                what a client and a server would say of a chain
//	foreign-tls connect FOLDER ADDRESS ALPN       a GET over a connection to a proxy
//	foreign-tls serve FOLDER                      a server that answers what proxies send over conduit/http1
//	foreign-tls certify ROOTS ADDRESS TOKEN CSR   a certificate from the operator's identity port, in PEM
//
// FOLDER holds roots.pem and, for who has one, a certificate with its key: chain.pem and key.pem.
package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const patience = 15 * time.Second

func main() {
	commands := map[string]func([]string) error{"verify": verify, "connect": connect, "serve": serve, "certify": certify}
	operands := map[string]int{"verify": 2, "connect": 3, "serve": 1, "certify": 4}
	if len(os.Args) < 2 || commands[os.Args[1]] == nil || len(os.Args)-2 != operands[os.Args[1]] {
		fmt.Fprintln(os.Stderr, "foreign-tls: see the head of main.go")
		os.Exit(2)
	}
	if err := commands[os.Args[1]](os.Args[2:]); err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
}

// certificates reads a file of PEM.
func certificates(file string) ([]*x509.Certificate, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var all []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		all = append(all, certificate)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s holds no certificate", file)
	}
	return all, nil
}

func pool(all []*x509.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, certificate := range all {
		pool.AddCert(certificate)
	}
	return pool
}

// check builds a path from the first of chain to one of roots. A workload has no DNS name to ask for.
func check(roots, chain []*x509.Certificate, usage x509.ExtKeyUsage) error {
	_, err := chain[0].Verify(x509.VerifyOptions{
		Roots: pool(roots), Intermediates: pool(chain[1:]), KeyUsages: []x509.ExtKeyUsage{usage},
	})
	return err
}

func verify(args []string) error {
	roots, err := certificates(args[0])
	if err != nil {
		return err
	}
	chain, err := certificates(args[1])
	if err != nil {
		return err
	}
	for name, usage := range map[string]x509.ExtKeyUsage{"client": x509.ExtKeyUsageClientAuth, "server": x509.ExtKeyUsageServerAuth} {
		if err := check(roots, chain, usage); err != nil {
			return fmt.Errorf("as a %s: %w", name, err)
		}
	}
	leaf := chain[0]
	fmt.Println("uris", leaf.URIs)
	fmt.Println("other names", len(leaf.DNSNames)+len(leaf.IPAddresses)+len(leaf.EmailAddresses))
	fmt.Println("extended key usages", len(leaf.ExtKeyUsage), len(leaf.UnknownExtKeyUsage))
	fmt.Println("digital signature only", leaf.KeyUsage == x509.KeyUsageDigitalSignature)
	fmt.Println("unhandled critical extensions", len(leaf.UnhandledCriticalExtensions))
	fmt.Println("serial number bits", leaf.SerialNumber.BitLen())
	fmt.Println("seconds of life", int(leaf.NotAfter.Sub(leaf.NotBefore).Seconds()))
	return nil
}

// config is what both sides have in common: whom they trust, and who they are if they can prove it.
func config(folder string) (*tls.Config, []*x509.Certificate, error) {
	roots, err := certificates(filepath.Join(folder, "roots.pem"))
	if err != nil {
		return nil, nil, err
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	certificate, err := tls.LoadX509KeyPair(filepath.Join(folder, "chain.pem"), filepath.Join(folder, "key.pem"))
	switch {
	case err == nil:
		config.Certificates = []tls.Certificate{certificate}
	case !errors.Is(err, os.ErrNotExist):
		return nil, nil, err
	}
	return config, roots, nil
}

func report(state tls.ConnectionState) {
	fmt.Println("version", tls.VersionName(state.Version))
	fmt.Println("group", state.CurveID)
	fmt.Println("protocol", state.NegotiatedProtocol)
	fmt.Println("peer", state.PeerCertificates[0].URIs)
	fmt.Println("resumed", state.DidResume)
}

func connect(args []string) error {
	config, roots, err := config(args[0])
	if err != nil {
		return err
	}
	config.NextProtos = []string{args[2]}
	// The name on a workload's certificate is a URI, which crypto/tls cannot ask for: the chain is verified here.
	config.InsecureSkipVerify = true
	config.VerifyConnection = func(state tls.ConnectionState) error {
		return check(roots, state.PeerCertificates, x509.ExtKeyUsageServerAuth)
	}
	tcp, err := net.DialTimeout("tcp", args[1], patience)
	if err != nil {
		return err
	}
	defer tcp.Close()
	if err := tcp.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	connection := tls.Client(tcp, config)
	if err := connection.Handshake(); err != nil {
		return err
	}
	report(connection.ConnectionState())
	if _, err := io.WriteString(connection, "GET / HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n"); err != nil {
		return err
	}
	response, err := http.ReadResponse(bufio.NewReader(connection), nil)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(response.Body)
	fmt.Println("answer", response.StatusCode, string(body))
	return err
}

func serve(args []string) error {
	config, roots, err := config(args[0])
	if err != nil {
		return err
	}
	config.NextProtos = []string{"conduit/h2", "conduit/http1", "conduit/tcp"}
	config.ClientAuth = tls.RequireAndVerifyClientCert
	config.ClientCAs = pool(roots)
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		fmt.Printf("offered versions %x\n", hello.SupportedVersions)
		fmt.Println("offered groups", hello.SupportedCurves)
		fmt.Println("offered protocols", hello.SupportedProtos)
		fmt.Printf("server name %q\n", hello.ServerName)
		return nil, nil
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		return err
	}
	fmt.Println("listening", listener.Addr())
	for {
		connection, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			if err := answer(connection.(*tls.Conn)); err != nil && !errors.Is(err, io.EOF) {
				fmt.Println("error", err)
			}
		}()
	}
}

// answer serves one connection. Go's own server turns away protocols that it does not know.
func answer(connection *tls.Conn) error {
	defer connection.Close()
	if err := connection.Handshake(); err != nil {
		return err
	}
	report(connection.ConnectionState())
	for requests := bufio.NewReader(connection); ; {
		if _, err := http.ReadRequest(requests); err != nil {
			return err
		}
		if _, err := io.WriteString(connection, "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nfrom Go"); err != nil {
			return err
		}
	}
}

// certify calls /conduit.identity.v1.Identity/Certify as any gRPC client would: a message of one field of bytes, with a
// prefix of a flag and its length.
func certify(args []string) error {
	roots, err := certificates(args[0])
	if err != nil {
		return err
	}
	request, err := os.ReadFile(args[3])
	if err != nil {
		return err
	}
	message := append([]byte{1<<3 | 2}, binary.AppendUvarint(nil, uint64(len(request)))...)
	message = append(message, request...)
	body := append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)
	call, err := http.NewRequest(http.MethodPost, "https://"+args[1]+"/conduit.identity.v1.Identity/Certify", strings.NewReader(string(body)))
	if err != nil {
		return err
	}
	call.Header = http.Header{
		"Authorization": {"Bearer " + args[2]}, "Content-Type": {"application/grpc"}, "Te": {"trailers"},
	}
	client := http.Client{Timeout: patience, Transport: &http.Transport{
		ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: pool(roots), ServerName: "localhost", MinVersion: tls.VersionTLS12},
	}}
	response, err := client.Do(call)
	if err != nil {
		return err
	}
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	// A refusal has no body, and its status in the headers.
	status := response.Trailer.Get("Grpc-Status") + response.Header.Get("Grpc-Status")
	if status != "0" || len(answer) < 5 {
		message, err := url.PathUnescape(response.Header.Get("Grpc-Message"))
		return errors.Join(fmt.Errorf("status %s: %s", status, message), err)
	}
	fmt.Fprintln(os.Stderr, "version", tls.VersionName(response.TLS.Version))
	fmt.Fprintln(os.Stderr, "group", response.TLS.CurveID)
	for answer = answer[5:]; len(answer) > 0; {
		field, rest := answer[0], answer[1:]
		length, read := binary.Uvarint(rest)
		if read <= 0 || uint64(len(rest)-read) < length {
			return errors.New("the answer is no message")
		}
		value := rest[read : read+int(length)]
		answer = rest[read+int(length):]
		if field == 1<<3|2 {
			if err := pem.Encode(os.Stdout, &pem.Block{Type: "CERTIFICATE", Bytes: value}); err != nil {
				return err
			}
		}
	}
	return nil
}
