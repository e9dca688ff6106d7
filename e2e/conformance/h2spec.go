package main

import (
	"encoding/xml"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// junit is h2spec's report: a suite for each section of the specification.
type junit struct {
	Suites []struct {
		Section string `xml:"package,attr"`
		Cases   []struct {
			Name    string    `xml:"classname,attr"`
			Failure *struct{} `xml:"failure"`
			Skipped *struct{} `xml:"skipped"`
			Error   *struct{} `xml:"error"`
		} `xml:"testcase"`
	} `xml:"testsuite"`
}

// runH2spec runs every case, the strict ones too. h2spec fails where a case does: its report says which.
func runH2spec(tools, address string, user uint32) ([]result, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	// It is h2spec's to write to, whoever that is.
	folder, err := os.MkdirTemp("", "h2spec")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(folder)
	if err := os.Chown(folder, int(user), int(user)); err != nil {
		return nil, err
	}
	report := filepath.Join(folder, "report.xml")
	command := limited("300", filepath.Join(tools, "h2spec"), "--strict", "--host="+host, "--port="+port, "--junit-report="+report)
	output, failed := as(user, command).CombinedOutput()
	text, err := os.ReadFile(report)
	if err != nil {
		return nil, fmt.Errorf("no report: %w\n%s", errors.Join(failed, err), output)
	}
	var read junit
	if err := xml.Unmarshal(text, &read); err != nil {
		return nil, err
	}
	var all []result
	named := map[string]int{}
	for _, section := range read.Suites {
		for _, one := range section.Cases {
			name := section.Section + " " + one.Name
			// Two that are called alike are two.
			if named[name]++; named[name] > 1 {
				name = fmt.Sprintf("%s (%d)", name, named[name])
			}
			switch {
			case one.Failure == nil && one.Skipped == nil && one.Error == nil:
				all = append(all, result{name: name})
			default:
				all = append(all, result{name: name, failure: said(string(output), one.Name)})
			}
		}
	}
	if len(all) == 0 {
		return nil, errors.New("the report has no case")
	}
	return all, nil
}

// said is what h2spec printed of a failure, in its list of failures: what it expected, and what happened.
func said(output, name string) string {
	_, failures, _ := strings.Cut(output, "Failures:")
	_, after, found := strings.Cut(failures, ": "+name+"\n")
	if !found {
		return "failed"
	}
	var lines []string
	for line := range strings.Lines(after) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "×") {
			break
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, " ")
}

// limited is a command that is ended after so many seconds.
func limited(seconds, program string, arguments ...string) *exec.Cmd {
	return exec.Command("timeout", append([]string{"--kill-after=5", seconds, program}, arguments...)...)
}
