package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// result is how one case ended; it passed if there is no failure.
type result struct {
	name, failure string
}

// exception is a case that may not pass, in one suite or in a family of them (`grpc` for `grpc/declared`), and why.
type exception struct {
	suite, name, reason string
	// used is set once a case failed by it.
	used bool
}

func (e exception) covers(suite, name string) bool {
	family, _, _ := strings.Cut(suite, "/")
	return e.name == name && (e.suite == suite || e.suite == family)
}

// readExceptions reads lines of `suite | case | reason`.
func readExceptions(file string) ([]*exception, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var all []*exception
	for number, line := range strings.Split(string(text), "\n") {
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		parts := strings.Split(line, " | ")
		if len(parts) != 3 || slices.ContainsFunc(parts, func(part string) bool { return strings.TrimSpace(part) == "" }) {
			return nil, fmt.Errorf("%s:%d: expected suite | case | reason", file, number+1)
		}
		all = append(all, &exception{suite: strings.TrimSpace(parts[0]), name: strings.TrimSpace(parts[1]), reason: strings.TrimSpace(parts[2])})
	}
	return all, nil
}

// results is what came of all suites.
type results struct {
	lines  []string
	faults []error
}

// add takes the cases of a suite, and sums them up.
func (r *results) add(suite string, cases []result, exceptions []*exception) string {
	var passed, excepted, failed int
	for _, one := range cases {
		index := slices.IndexFunc(exceptions, func(e *exception) bool { return e.covers(suite, one.name) })
		verdict, detail := "pass", ""
		switch {
		case one.failure == "" && index < 0:
			passed++
		case one.failure == "":
			failed++
			verdict, detail = "FAIL", "passes, and is an exception: "+exceptions[index].reason
			exceptions[index].used = true
		case index < 0:
			failed++
			verdict, detail = "FAIL", one.failure
		default:
			excepted++
			verdict, detail = "except", exceptions[index].reason
			exceptions[index].used = true
		}
		if verdict == "FAIL" {
			r.faults = append(r.faults, fmt.Errorf("%s: %s: %s", suite, one.name, detail))
		}
		r.lines = append(r.lines, strings.TrimRight(fmt.Sprintf("%-6s  %-26s %-70s %s", verdict, suite, one.name, detail), " "))
	}
	return fmt.Sprintf("%4d cases  %4d passed  %3d excepted  %3d failed", len(cases), passed, excepted, failed)
}

// write makes a file with a line for each case.
func (r *results) write(file string) error {
	return os.WriteFile(file, []byte(strings.Join(r.lines, "\n")+"\n"), 0o644)
}

// judge is every case that failed and has no exception, and every exception that nothing needs.
func (r *results) judge(exceptions []*exception) error {
	faults := slices.Clone(r.faults)
	for _, one := range exceptions {
		if !one.used {
			faults = append(faults, fmt.Errorf("%s: %s: an exception of which no case was run", one.suite, one.name))
		}
	}
	return errors.Join(faults...)
}
