// Reads PromQL expressions, one a line, with Prometheus' own parser; says which it doesn't understand, and fails then.
package main

import (
	"bufio"
	"fmt"
	"os"

	"github.com/prometheus/prometheus/promql/parser"
)

func main() {
	file, fault := os.Open(os.Args[1])
	if fault != nil {
		fmt.Fprintln(os.Stderr, fault)
		os.Exit(2)
	}
	understands := parser.NewParser(parser.Options{})
	failed := 0
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if _, fault := understands.ParseExpr(lines.Text()); fault != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", lines.Text(), fault)
			failed = 1
		}
	}
	os.Exit(failed)
}
