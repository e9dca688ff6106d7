package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// judged is what is said of one suite's cases with these exceptions; nothing if all is well.
func judged(t *testing.T, suite string, cases []result, exceptions string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "exceptions.txt")
	if err := os.WriteFile(file, []byte(exceptions), 0o600); err != nil {
		t.Fatal(err)
	}
	excepted, err := readExceptions(file)
	if err != nil {
		t.Fatal(err)
	}
	var all results
	all.add(suite, cases, excepted)
	if err := all.judge(excepted); err != nil {
		return err.Error()
	}
	return ""
}

func TestOnlyWhatFailsWithoutAnExceptionAndExceptionsThatNothingNeedsFailTheRun(t *testing.T) {
	passed, failed := []result{{name: "ping"}}, []result{{name: "ping", failure: "no pong"}}
	for _, one := range []struct {
		name, suite string
		cases       []result
		exceptions  string
		fault       string
	}{
		{"all pass", "grpc/declared", passed, "# nothing\n", ""},
		{"one fails", "grpc/declared", failed, "", "grpc/declared: ping: no pong"},
		{"one fails by its exception", "grpc/declared", failed, "grpc/declared | ping | why", ""},
		{"one fails by its family's exception", "grpc/declared", failed, "grpc | ping | why", ""},
		{"an exception of another suite", "grpc/declared", failed, "grpc/detected | ping | why", "grpc/declared: ping: no pong"},
		{"an exception passes", "grpc/declared", passed, "grpc | ping | why", "ping: passes, and is an exception: why"},
		{"an exception of no case", "grpc/declared", passed, "grpc | pong | why", "grpc: pong: an exception of which no case was run"},
	} {
		got := judged(t, one.suite, one.cases, one.exceptions)
		if (got == "") != (one.fault == "") || !strings.Contains(got, one.fault) {
			t.Errorf("%s: %q, expected %q", one.name, got, one.fault)
		}
	}
}

func TestAnExceptionWithoutAReasonIsRefusedWithItsLine(t *testing.T) {
	for _, text := range []string{"\ngrpc | ping", "\ngrpc | ping | ", "\nping"} {
		file := filepath.Join(t.TempDir(), "exceptions.txt")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readExceptions(file); err == nil || !strings.Contains(err.Error(), ":2: expected suite | case | reason") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestWhatH2specSaysOfAFailureIsFoundInItsList(t *testing.T) {
	output := "    × 2: Sends a thing\nFailures: \n\n  3.5. Preface\n    × 1: Sends a thing\n      -> It MUST end.\n         Expected: end\n           Actual: none\n\n"
	if got := said(output, "Sends a thing"); got != "-> It MUST end. Expected: end Actual: none" {
		t.Error(got)
	}
	if got := said(output, "Sends another"); got != "failed" {
		t.Error(got)
	}
}

func TestTheCommittedExceptionsAreRead(t *testing.T) {
	all, err := readExceptions("exceptions.txt")
	if err != nil || len(all) == 0 {
		t.Errorf("%d exceptions, %v", len(all), err)
	}
}
