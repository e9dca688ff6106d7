// Command conformance holds the mesh to what others say of HTTP/2 and gRPC: h2spec against the listeners of both proxies,
// h2spec's unruly servers behind them, and gRPC's own interop client against its own server, through the mesh. hack/conformance.sh builds it and what it runs,
// and starts it in a pod; it knows nothing of how the proxies are built.
//
//	conformance serve TOOLS                          the applications: HTTP/2 in cleartext, and the interop server
//	conformance run TOOLS EXCEPTIONS REPORT          every suite, from the client's pod of `conduit-bench mesh`
//	conformance probe URL                            whether it answers
//	conformance peer IDENTITY TOKEN FOLDER TARGET    a peer of the mesh that carries what it is sent to a proxy
//
// TOOLS is the folder with h2spec and the interop `client` and `server`, EXCEPTIONS what may fail and why (exceptions.txt),
// REPORT the file that gets a line for each case.
package main

import (
	"fmt"
	"os"
)

func main() {
	commands := map[string]func([]string) error{"serve": serve, "run": run, "probe": probe, "peer": peer}
	operands := map[string]int{"serve": 1, "run": 3, "probe": 1, "peer": 4}
	if len(os.Args) < 2 || commands[os.Args[1]] == nil || len(os.Args)-2 != operands[os.Args[1]] {
		fmt.Fprintln(os.Stderr, "conformance: see the head of main.go")
		os.Exit(2)
	}
	if err := commands[os.Args[1]](os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

// run is every suite against the mesh that the environment tells of.
func run(args []string) error {
	tools, exceptions, report := args[0], args[1], args[2]
	excepted, err := readExceptions(exceptions)
	if err != nil {
		return err
	}
	mesh, err := meshFromEnvironment()
	if err != nil {
		return err
	}
	if err := mesh.admitPlaintext(); err != nil {
		return err
	}
	peer, err := startPeer(mesh)
	if err != nil {
		return err
	}
	defer peer.stop()

	var results results
	for _, suite := range suites(mesh, peer.address) {
		fmt.Printf("%-26s ", suite.name)
		cases, err := suite.run(tools)
		if err != nil {
			fmt.Println()
			return fmt.Errorf("%s: %w", suite.name, err)
		}
		fmt.Println(results.add(suite.name, cases, excepted))
	}
	if err := results.write(report); err != nil {
		return err
	}
	return results.judge(excepted)
}

// suite is one tool against one way into the mesh.
type suite struct {
	name string
	run  func(tools string) ([]result, error)
}

func suites(mesh mesh, peer string) []suite {
	h2spec := func(name, address string, user uint32) suite {
		return suite{"h2spec/" + name, func(tools string) ([]result, error) { return runH2spec(tools, address, user) }}
	}
	grpc := func(name, address string, user uint32) suite {
		return suite{"grpc/" + name, func(tools string) ([]result, error) { return runInterop(tools, address, user) }}
	}
	return []suite{
		h2spec("outbound", mesh.service("http2"), root),
		h2spec("outbound-detected", mesh.service("words"), root),
		h2spec("inbound-peer", peer, root),
		h2spec("inbound-plaintext", mesh.pod("http2"), unintercepted),
		{"h2spec/servers", func(string) ([]result, error) { return runServers(mesh.service("judge"), mesh.pod("http2")) }},
		grpc("declared", mesh.service("grpc"), root),
		grpc("detected", mesh.service("calls"), root),
		grpc("client-without-mesh", mesh.pod("grpc"), unintercepted),
	}
}
