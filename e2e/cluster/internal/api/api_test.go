package api

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// serve answers every request with one status and body.
func serve(t *testing.T, status int, body string) *Client {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}))
	t.Cleanup(server.Close)
	return &Client{server: server.URL}
}

func TestANodeIsReadyOnlyByWhatItsKubeletSaidSinceItStarted(t *testing.T) {
	start := time.Date(2026, 11, 22, 10, 0, 0, 700_000_000, time.UTC)
	node := func(status, heartbeat string) string {
		return `{"status":{"conditions":[{"type":"MemoryPressure","status":"False"},{"type":"Ready","status":"` + status +
			`","lastHeartbeatTime":"` + heartbeat + `"}]}}`
	}
	for name, test := range map[string]struct {
		body string
		want bool
	}{
		"said in the second of the start": {node("True", "2026-11-22T10:00:00Z"), true},
		"said later":                      {node("True", "2026-11-22T10:00:09Z"), true},
		"said before the restart":         {node("True", "2026-11-22T09:59:59Z"), false},
		"not ready":                       {node("False", "2026-11-22T10:00:09Z"), false},
		"said nothing yet":                {`{"status":{}}`, false},
	} {
		got, err := serve(t, http.StatusOK, test.body).NodeReady(context.Background(), 1, start)
		if err != nil || got != test.want {
			t.Errorf("%s: got %v, %v", name, got, err)
		}
	}
}

func TestANodeThatExistsIsNotMadeAgainButARefusalIsReported(t *testing.T) {
	if err := serve(t, http.StatusConflict, "{}").CreateNode(context.Background(), 1); err != nil {
		t.Errorf("a node that exists: %v", err)
	}
	if err := serve(t, http.StatusForbidden, "no").CreateNode(context.Background(), 1); err == nil {
		t.Error("a refusal was taken for success")
	}
}

func TestDNSIsReadyOnceAReplicaOfTheCurrentGenerationServes(t *testing.T) {
	for body, want := range map[string]bool{
		`{"metadata":{"generation":2},"status":{"observedGeneration":2,"availableReplicas":1}}`: true,
		`{"metadata":{"generation":2},"status":{"observedGeneration":1,"availableReplicas":1}}`: false,
		`{"metadata":{"generation":1},"status":{"observedGeneration":1}}`:                       false,
	} {
		got, err := serve(t, http.StatusOK, body).DNSReady(context.Background())
		if err != nil || got != want {
			t.Errorf("%s: got %v, %v", body, got, err)
		}
	}
}
