package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/summerwind/h2spec/client"
	"github.com/summerwind/h2spec/config"
	"github.com/summerwind/h2spec/spec"
)

const (
	// firstPort is that of the first case: each has its own. Below the ports that connections are made from.
	firstPort = 9100
	// verdict is how long a case may take to end once its request has.
	verdict = 5 * time.Second
)

// verdictOn is what h2spec makes of one case.
type verdictOn struct {
	Name    string `json:"name"`
	Port    int    `json:"port"`
	Failure string `json:"failure"`
}

// judge runs h2spec's servers, each of which breaks the rules in its own way towards whoever calls it, which is the proxy
// of its pod; and tells what they have seen: /cases lists them, /cases/PORT waits for the end of one.
func judge(address string) error {
	settings := &config.Config{Host: "0.0.0.0", FromPort: firstPort, Timeout: 2 * time.Second, MaxHeaderLen: 4000}
	all := client.Spec()
	if _, err := spec.Listen(settings, all); err != nil {
		return err
	}
	cases := map[int]*spec.ClientTestCase{}
	var listed []verdictOn
	for _, one := range flat(all) {
		// It is told more than once if the proxy comes again.
		one.Done = make(chan bool, 8)
		cases[one.Port] = one
		listed = append(listed, verdictOn{Name: one.Parent.ID() + " " + one.Desc, Port: one.Port})
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /cases", func(writer http.ResponseWriter, _ *http.Request) { answer(writer, listed) })
	mux.HandleFunc("GET /cases/{port}", func(writer http.ResponseWriter, request *http.Request) {
		port, _ := strconv.Atoi(request.PathValue("port"))
		one := cases[port]
		if one == nil {
			http.NotFound(writer, request)
			return
		}
		answer(writer, verdictOn{Name: one.Desc, Port: port, Failure: failure(one)})
	})
	return http.ListenAndServe(address, mux)
}

func answer(writer http.ResponseWriter, value any) {
	writer.Header().Set("content-type", "application/json")
	// Whoever asked is gone if it fails.
	_ = json.NewEncoder(writer).Encode(value)
}

func flat(group *spec.ClientTestGroup) []*spec.ClientTestCase {
	all := group.Tests
	for _, inner := range group.Groups {
		all = append(all, flat(inner)...)
	}
	return all
}

// failure is what went wrong with a case, once it has ended.
func failure(one *spec.ClientTestCase) string {
	select {
	case <-one.Done:
	case <-time.After(verdict):
		return "nobody called"
	}
	var told *spec.TestError
	switch result := one.Result; {
	case result.Skipped:
		return "skipped"
	case !result.Failed:
		return ""
	case errors.As(result.Error, &told):
		return fmt.Sprintf("%s Expected: %v Actual: %s", one.Requirement, told.Expected, told.Actual)
	default:
		return result.Error.Error()
	}
}

// runServers calls each of the judge's servers once. What is answered does not matter: the judge says how it went.
func runServers(judge, pod string) ([]result, error) {
	var listed []verdictOn
	if err := fetch("http://"+judge+"/cases", &listed); err != nil {
		return nil, err
	}
	if len(listed) == 0 {
		return nil, errors.New("the judge has no case")
	}
	host, _, err := net.SplitHostPort(pod)
	if err != nil {
		return nil, err
	}
	var all []result
	for _, one := range listed {
		if response, err := http2Client(verdict).Get("http://" + net.JoinHostPort(host, strconv.Itoa(one.Port)) + "/"); err == nil {
			_, _ = io.Copy(io.Discard, response.Body)
			response.Body.Close()
		}
		var told verdictOn
		if err := fetch(fmt.Sprintf("http://%s/cases/%d", judge, one.Port), &told); err != nil {
			return nil, err
		}
		all = append(all, result{one.Name, told.Failure})
	}
	return all, nil
}

// http2Client is one by HTTP/2 with prior knowledge, with a connection of its own.
func http2Client(limit time.Duration) *http.Client {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Client{Timeout: limit, Transport: &http.Transport{Protocols: protocols}}
}

func fetch(url string, into any) error {
	limited, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	request, err := http.NewRequestWithContext(limited, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: status %s", url, response.Status)
	}
	return json.NewDecoder(response.Body).Decode(into)
}
