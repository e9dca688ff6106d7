package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const (
	// identityService is where the operator of conduit-bench certifies, by the name in its certificate.
	identityService = "conduit-operator.conduit.svc.cluster.local:8080"
	// http2 is how a peer says that its connection carries HTTP/2 (RFC 7301).
	http2 = "conduit/h2"
)

// runningPeer is a `conformance peer`, which listens on loopback.
type runningPeer struct {
	command *exec.Cmd
	address string
}

// startPeer starts one with the identity of the client's pod. What it sends is not intercepted.
func startPeer(mesh mesh) (*runningPeer, error) {
	identity := filepath.Join(filepath.Dir(mesh.manifests), "identity")
	token, err := os.ReadFile(filepath.Join(identity, "client"))
	if err != nil {
		return nil, err
	}
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	command := as(unintercepted, exec.Command(program, "peer", identityService, string(token), identity, mesh.pod("http2")))
	command.Stderr = os.Stderr
	output, err := command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := command.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(output).ReadString('\n')
	address, found := strings.CutPrefix(strings.TrimSpace(line), "listening ")
	if !found {
		return nil, errors.Join(errors.New("the peer does not listen"), err, command.Wait())
	}
	return &runningPeer{command, address}, nil
}

func (p *runningPeer) stop() {
	// It may have ended already.
	_ = p.command.Process.Kill()
	_ = p.command.Wait()
}

// peer gets a certificate as a proxy does, and carries what it is sent to the proxy at a target, byte for byte, over
// connections on which it has proved who it is. For tools that speak no TLS, or offer no protocol of ours.
func peer(args []string) error {
	service, token, folder, target := args[0], args[1], args[2], args[3]
	text, err := os.ReadFile(filepath.Join(folder, "ca.crt"))
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return errors.New("ca.crt holds no certificate")
	}
	certificate, err := certify(service, token, roots)
	if err != nil {
		return err
	}
	config := &tls.Config{
		Certificates: []tls.Certificate{certificate},
		NextProtos:   []string{http2},
		MinVersion:   tls.VersionTLS13,
		// The name on a workload's certificate is a URI, which crypto/tls cannot ask for: the chain is verified below.
		InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			intermediates := x509.NewCertPool()
			for _, certificate := range state.PeerCertificates[1:] {
				intermediates.AddCert(certificate)
			}
			_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates})
			if err == nil && state.NegotiatedProtocol != http2 {
				err = fmt.Errorf("the proxy agreed to %q", state.NegotiatedProtocol)
			}
			return err
		},
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println("listening", listener.Addr())
	for {
		near, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer near.Close()
			far, err := tls.Dial("tcp", target, config)
			if err != nil {
				fmt.Fprintln(os.Stderr, "peer:", err)
				return
			}
			defer far.Close()
			carry(near.(*net.TCPConn), far)
		}()
	}
}

// carry returns when both directions have ended; the end of one is carried on.
func carry(near *net.TCPConn, far *tls.Conn) {
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_, _ = io.Copy(far, near)
		_ = far.CloseWrite()
	}()
	_, _ = io.Copy(near, far)
	_ = near.CloseWrite()
	<-sent
}

// certify makes a key and gets a certificate for it. The call's message is a field 1 of bytes, as BytesValue is; the answer's
// certificates are its fields 1, the leaf first.
func certify(service, token string, roots *x509.CertPool) (tls.Certificate, error) {
	var none tls.Certificate
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return none, err
	}
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return none, err
	}
	channel, err := grpc.NewClient(service, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13})))
	if err != nil {
		return none, err
	}
	defer channel.Close()
	limited, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	authorized := metadata.AppendToOutgoingContext(limited, "authorization", "Bearer "+token)
	var answer emptypb.Empty
	if err := channel.Invoke(authorized, "/conduit.identity.v1.Identity/Certify", wrapperspb.Bytes(request), &answer); err != nil {
		return none, err
	}
	certificate := tls.Certificate{PrivateKey: key}
	for fields := []byte(answer.ProtoReflect().GetUnknown()); len(fields) > 0; {
		number, kind, length := protowire.ConsumeTag(fields)
		if length < 0 || kind != protowire.BytesType {
			return none, errors.New("the answer is none of the identity service's")
		}
		value, read := protowire.ConsumeBytes(fields[length:])
		if read < 0 {
			return none, protowire.ParseError(read)
		}
		if fields = fields[length+read:]; number == 1 {
			certificate.Certificate = append(certificate.Certificate, bytes.Clone(value))
		}
	}
	if len(certificate.Certificate) == 0 {
		return none, errors.New("the answer holds no certificate")
	}
	return certificate, nil
}
