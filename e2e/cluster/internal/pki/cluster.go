package pki

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/conduit-mesh/conduit/e2e/cluster/internal/layout"
)

// Files of the cluster's PKI directory, without their endings: NAME.crt and NAME.key are PEM, NAME.kubeconfig holds both
// inline. A kubelet's are Kubelet(node).
const (
	CA                = "ca"
	FrontProxyCA      = "front-proxy-ca"
	APIServer         = "apiserver"
	KubeletClient     = "apiserver-kubelet-client"
	FrontProxyClient  = "front-proxy-client"
	Admin             = "admin"
	ControllerManager = "controller-manager"
	Scheduler         = "scheduler"
	Proxy             = "proxy"
	ServiceAccount    = "service-account"
)

// Kubelet names the files of one node's kubelet.
func Kubelet(node layout.Node) string { return "kubelet-" + node.Name() }

// WriteCluster writes everything that a cluster of so many nodes needs into dir, which it makes.
func WriteCluster(dir string, nodes int) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	ca, err := NewAuthority("kubernetes")
	if err != nil {
		return err
	}
	frontProxyCA, err := NewAuthority("front-proxy-ca")
	if err != nil {
		return err
	}
	w := writer{dir: dir, ca: ca}
	w.pair(CA, ca.Pair)
	w.pair(FrontProxyCA, frontProxyCA.Pair)
	w.issue(ca, APIServer, Subject{Name: "kube-apiserver", Hosts: []string{
		"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc." + layout.ClusterDomain,
		"localhost", "127.0.0.1", layout.APIServiceIP, layout.ControlPlane.IP(),
	}})
	w.issue(ca, KubeletClient, Subject{Name: "kube-apiserver-kubelet-client", Groups: []string{"system:masters"}})
	w.issue(frontProxyCA, FrontProxyClient, Subject{Name: "front-proxy-client"})
	w.user(Admin, Subject{Name: "admin", Groups: []string{"system:masters"}})
	w.user(ControllerManager, Subject{Name: "system:kube-controller-manager"})
	w.user(Scheduler, Subject{Name: "system:kube-scheduler"})
	w.user(Proxy, Subject{Name: "system:kube-proxy"})
	for _, node := range layout.Nodes(nodes) {
		w.user(Kubelet(node), Subject{
			Name:   "system:node:" + node.Name(),
			Groups: []string{"system:nodes"},
			Hosts:  []string{node.Name(), node.IP(), "127.0.0.1"},
		})
	}
	w.serviceAccountKey()
	if w.err != nil {
		return fmt.Errorf("certificates in %s: %w", dir, w.err)
	}
	return nil
}

// WriteKubeconfig writes, to path, the administrator's kubeconfig for an API server at server. The context is named
// context, which is what a user sees in a prompt.
func WriteKubeconfig(path, dir, context, server string) error {
	ca, err := os.ReadFile(filepath.Join(dir, CA+".crt"))
	if err != nil {
		return err
	}
	certificate, err := os.ReadFile(filepath.Join(dir, Admin+".crt"))
	if err != nil {
		return err
	}
	key, err := os.ReadFile(filepath.Join(dir, Admin+".key"))
	if err != nil {
		return err
	}
	return os.WriteFile(path, kubeconfig(context, server, ca, Pair{Certificate: certificate, Key: key}), 0o600)
}

// writer remembers the first error, so that the list above reads as a list.
type writer struct {
	dir string
	ca  *Authority
	err error
}

func (w *writer) file(name string, content []byte, mode os.FileMode) {
	if w.err == nil {
		w.err = os.WriteFile(filepath.Join(w.dir, name), content, mode)
	}
}

func (w *writer) pair(name string, pair Pair) {
	w.file(name+".crt", pair.Certificate, 0o644)
	w.file(name+".key", pair.Key, 0o600)
}

func (w *writer) issue(authority *Authority, name string, subject Subject) Pair {
	if w.err != nil {
		return Pair{}
	}
	pair, err := authority.Issue(subject)
	if err != nil {
		w.err = err
	}
	w.pair(name, pair)
	return pair
}

// user writes a certificate of the cluster's authority and a kubeconfig with it.
func (w *writer) user(name string, subject Subject) {
	pair := w.issue(w.ca, name, subject)
	w.file(name+".kubeconfig", kubeconfig("cluster", layout.APIServerURL(), w.ca.Certificate, pair), 0o600)
}

// serviceAccountKey is RSA because every client library verifies RS256.
func (w *writer) serviceAccountKey() {
	if w.err != nil {
		return
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		w.err = err
		return
	}
	private, err := encodeKey(key)
	if err != nil {
		w.err = err
		return
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		w.err = err
		return
	}
	w.file(ServiceAccount+".key", private, 0o600)
	w.file(ServiceAccount+".pub", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}), 0o644)
}

func kubeconfig(name, server string, ca []byte, user Pair) []byte {
	return []byte(strings.NewReplacer(
		"NAME", name,
		"SERVER", server,
		"AUTHORITY", base64.StdEncoding.EncodeToString(ca),
		"CERTIFICATE", base64.StdEncoding.EncodeToString(user.Certificate),
		"KEY", base64.StdEncoding.EncodeToString(user.Key),
	).Replace(`apiVersion: v1
kind: Config
clusters:
- name: NAME
  cluster:
    server: SERVER
    certificate-authority-data: AUTHORITY
users:
- name: NAME
  user:
    client-certificate-data: CERTIFICATE
    client-key-data: KEY
contexts:
- name: NAME
  context: {cluster: NAME, user: NAME}
current-context: NAME
`))
}
