package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
)

// serve runs the applications: on each port of `ports` what its name says.
func serve(args []string) error {
	ended := make(chan error)
	for _, name := range []string{"http2", "words"} {
		go func() { ended <- origin(":" + ports[name].pod) }()
	}
	for _, name := range []string{"grpc", "calls"} {
		command := as(root, exec.Command(filepath.Join(args[0], "server"), "--port="+ports[name].pod))
		command.Stdout, command.Stderr = os.Stdout, os.Stderr
		if err := command.Start(); err != nil {
			return err
		}
		go func() { ended <- fmt.Errorf("the interop server ended: %w", command.Wait()) }()
	}
	go func() { ended <- judge(":" + ports["judge"].pod) }()
	return <-ended
}

// origin answers every request, once it has read it whole, with a body longer than the windows that h2spec opens.
func origin(address string) error {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	body := make([]byte, 1024)
	handler := http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
		// A body that breaks off has no answer that anybody hears.
		if _, err := io.Copy(io.Discard, request.Body); err == nil {
			_, _ = writer.Write(body)
		}
	})
	return (&http.Server{Addr: address, Handler: handler, Protocols: protocols}).ListenAndServe()
}

// probe asks once for a URL, by HTTP/2, and says whether it was answered well.
func probe(args []string) error {
	response, err := http2Client(patience).Get(args[0])
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("status %s", response.Status)
	}
	_, err = io.Copy(io.Discard, response.Body)
	return err
}
