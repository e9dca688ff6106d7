package main

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"
)

// cases of the interop client, and those of gRPC's list that it does not have: exceptions.txt says so of each, so that
// a version that has them is noticed. What takes an account of a cloud is left out: compute_engine_creds,
// service_account_creds, jwt_token_creds, per_rpc_creds, oauth2_auth_token, google_default_credentials and
// compute_engine_channel_credentials.
//
// https://github.com/grpc/grpc/blob/master/doc/interop-test-descriptions.md
var cases = []string{
	"empty_unary",
	"cacheable_unary",
	"large_unary",
	"client_compressed_unary",
	"server_compressed_unary",
	"client_streaming",
	"client_compressed_streaming",
	"server_streaming",
	"server_compressed_streaming",
	"ping_pong",
	"empty_stream",
	"custom_metadata",
	"status_code_and_message",
	"special_status_message",
	"unimplemented_method",
	"unimplemented_service",
	"cancel_after_begin",
	"cancel_after_first_response",
	"timeout_on_sleeping_server",
	"pick_first_unary",
	"orca_per_rpc",
	"orca_oob",
	"rpc_soak",
	"channel_soak",
}

// runInterop runs each case in a process of its own, as its makers do.
func runInterop(tools, address string, user uint32) ([]result, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	var all []result
	for _, name := range cases {
		arguments := []string{"--server_host=" + host, "--server_port=" + port, "--test_case=" + name}
		switch {
		case strings.HasPrefix(name, "orca_"):
			// The balancer that hands the server's reports of its load to the test.
			arguments = append(arguments, `--service_config_json={"loadBalancingConfig":[{"test_backend_metrics_load_balancer":{}}]}`)
		case strings.HasSuffix(name, "_soak"):
			arguments = append(arguments, "--soak_iterations=100", "--soak_num_threads=4", "--soak_overall_timeout_seconds=50")
		}
		output, err := as(user, limited("60", filepath.Join(tools, "client"), arguments...)).CombinedOutput()
		one := result{name: name}
		if err != nil {
			lines := strings.Split(strings.TrimSpace(string(output)), "\n")
			one.failure = fmt.Sprintf("%v: %s", err, lines[len(lines)-1])
		}
		all = append(all, one)
	}
	return all, nil
}
