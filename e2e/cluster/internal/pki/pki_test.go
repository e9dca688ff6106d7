package pki

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/conduit-mesh/conduit/e2e/cluster/internal/layout"
)

func load(t *testing.T, dir, name string) *x509.Certificate {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key"))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return pair.Leaf
}

func TestEveryCertificateHasItsKeyAndVerifiesUnderItsAuthorityAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pki")
	if err := WriteCluster(dir, 2); err != nil {
		t.Fatal(err)
	}
	cluster, frontProxy := x509.NewCertPool(), x509.NewCertPool()
	cluster.AddCert(load(t, dir, CA))
	frontProxy.AddCert(load(t, dir, FrontProxyCA))
	usage := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	for _, name := range []string{APIServer, KubeletClient, Admin, ControllerManager, Scheduler, Proxy, Kubelet(1), Kubelet(2)} {
		if _, err := load(t, dir, name).Verify(x509.VerifyOptions{Roots: cluster, KeyUsages: usage}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	client := load(t, dir, FrontProxyClient)
	if _, err := client.Verify(x509.VerifyOptions{Roots: frontProxy, KeyUsages: usage}); err != nil {
		t.Errorf("%s: %v", FrontProxyClient, err)
	}
	// A front proxy's certificate that the cluster's authority signed would let any user pretend to be another.
	if _, err := client.Verify(x509.VerifyOptions{Roots: cluster, KeyUsages: usage}); err == nil {
		t.Errorf("%s verifies under the cluster's authority", FrontProxyClient)
	}
}

func TestServersAnswerOnTheNamesThatClientsDial(t *testing.T) {
	dir := t.TempDir()
	if err := WriteCluster(dir, 2); err != nil {
		t.Fatal(err)
	}
	for name, hosts := range map[string][]string{
		APIServer:  {"kubernetes.default.svc", "127.0.0.1", "10.96.0.1", "172.30.0.1"},
		Kubelet(2): {"node2", "172.30.0.2"},
	} {
		for _, host := range hosts {
			if err := load(t, dir, name).VerifyHostname(host); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	kubelet := load(t, dir, Kubelet(2))
	if kubelet.Subject.CommonName != "system:node:node2" || kubelet.Subject.Organization[0] != "system:nodes" {
		t.Errorf("the node authorizer would not know %v", kubelet.Subject)
	}
}

func TestTheKubeconfigHoldsTheAdministratorsCertificate(t *testing.T) {
	dir := t.TempDir()
	if err := WriteCluster(dir, 1); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "host.kubeconfig")
	if err := WriteKubeconfig(path, dir, "conduit-demo", "https://127.0.0.1:4321"); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for field, file := range map[string]string{"certificate-authority-data": "ca.crt", "client-certificate-data": "admin.crt", "client-key-data": "admin.key"} {
		match := regexp.MustCompile(field + `: (\S+)`).FindSubmatch(text)
		if match == nil {
			t.Fatalf("no %s in\n%s", field, text)
		}
		got, err := base64.StdEncoding.DecodeString(string(match[1]))
		if err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != string(want) {
			t.Errorf("%s is not %s", field, file)
		}
	}
	if !regexp.MustCompile(`server: https://127\.0\.0\.1:4321\n`).Match(text) || !regexp.MustCompile(`current-context: conduit-demo\n`).Match(text) {
		t.Errorf("server or context missing in\n%s", text)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("a kubeconfig holds a key: mode %v, %v", info.Mode(), err)
	}
	if layout.APIServerURL() != "https://172.30.0.1:6443" {
		t.Errorf("nodes would dial %s", layout.APIServerURL())
	}
}
