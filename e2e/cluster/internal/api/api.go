// Package api asks a test cluster's API server the few things that starting a cluster needs, as its administrator.
//
// It is not a Kubernetes client: it reads and writes the fields named here and leaves all else to kubectl.
package api

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/conduit-mesh/conduit/e2e/cluster/internal/layout"
	"github.com/conduit-mesh/conduit/e2e/cluster/internal/pki"
)

// requestTimeout bounds one request. Callers that wait for something ask again.
const requestTimeout = 5 * time.Second

// Client talks to one API server.
type Client struct {
	server string
	http   http.Client
}

// New makes a client for the API server at server (https://HOST:PORT) with the administrator's certificate from the PKI
// directory.
func New(server, pkiDir string) (*Client, error) {
	certificate, err := tls.LoadX509KeyPair(filepath.Join(pkiDir, pki.Admin+".crt"), filepath.Join(pkiDir, pki.Admin+".key"))
	if err != nil {
		return nil, fmt.Errorf("administrator's certificate: %w", err)
	}
	authority, err := os.ReadFile(filepath.Join(pkiDir, pki.CA+".crt"))
	if err != nil {
		return nil, fmt.Errorf("cluster's authority: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(authority) {
		return nil, fmt.Errorf("cluster's authority: no certificate in %s", pkiDir)
	}
	return &Client{server: server, http: http.Client{
		Timeout: requestTimeout,
		Transport: &http.Transport{
			// No proxy from the environment: the API server is on loopback or on the wire.
			TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{certificate}},
		},
	}}, nil
}

// statusError is an answer other than 2xx.
type statusError struct {
	code int
	text string
}

func (e statusError) Error() string {
	return fmt.Sprintf("the API server answered %d: %s", e.code, e.text)
}

// Ready is nil once the API server serves and its start-up hooks are done.
func (c *Client) Ready(ctx context.Context) error {
	return c.do(ctx, http.MethodGet, "/readyz", nil, nil)
}

// CreateNode makes the Node object, so that its pod range is fixed before its kubelet starts. One that exists is left.
func (c *Client) CreateNode(ctx context.Context, node layout.Node) error {
	err := c.do(ctx, http.MethodPost, "/api/v1/nodes", nodeObject(node), nil)
	if status, ok := err.(statusError); ok && status.code == http.StatusConflict {
		return nil
	}
	return err
}

func nodeObject(node layout.Node) map[string]any {
	return map[string]any{
		"apiVersion": "v1",
		"kind":       "Node",
		"metadata": map[string]any{
			"name": node.Name(),
			"labels": map[string]string{
				"kubernetes.io/os":       "linux",
				"kubernetes.io/arch":     runtime.GOARCH,
				"kubernetes.io/hostname": node.Name(),
			},
		},
		"spec": map[string]any{"podCIDR": node.PodCIDR(), "podCIDRs": []string{node.PodCIDR()}},
	}
}

// NodeReady tells whether the node's kubelet reported Ready at or after since: what it said before a restart is stale.
func (c *Client) NodeReady(ctx context.Context, node layout.Node, since time.Time) (bool, error) {
	var object struct {
		Status struct {
			Conditions []struct {
				Type              string
				Status            string
				LastHeartbeatTime time.Time
			}
		}
	}
	if err := c.do(ctx, http.MethodGet, "/api/v1/nodes/"+node.Name(), nil, &object); err != nil {
		return false, err
	}
	for _, condition := range object.Status.Conditions {
		if condition.Type == "Ready" {
			// The API server keeps whole seconds.
			fresh := !condition.LastHeartbeatTime.Before(since.Truncate(time.Second))
			return condition.Status == "True" && fresh, nil
		}
	}
	return false, nil
}

// DNSReady tells whether CoreDNS serves.
func (c *Client) DNSReady(ctx context.Context) (bool, error) {
	var object struct {
		Metadata struct{ Generation int64 }
		Status   struct {
			ObservedGeneration int64
			AvailableReplicas  int
		}
	}
	if err := c.do(ctx, http.MethodGet, "/apis/apps/v1/namespaces/kube-system/deployments/coredns", nil, &object); err != nil {
		return false, err
	}
	return object.Status.ObservedGeneration >= object.Metadata.Generation && object.Status.AvailableReplicas > 0, nil
}

func (c *Client) do(ctx context.Context, method, path string, body, into any) error {
	var payload io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("%s %s: %w", method, path, err)
		}
		payload = bytes.NewReader(encoded)
	}
	request, err := http.NewRequestWithContext(ctx, method, c.server+path, payload)
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := c.http.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	if response.StatusCode/100 != 2 {
		return statusError{code: response.StatusCode, text: strings.TrimSpace(string(content))}
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(content, into); err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	return nil
}
