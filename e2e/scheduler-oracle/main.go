// kube-scheduler's own filters, without a scheduler: no API server, no queue, no binding.
//
// The first line that it prints names the filters of the default profile. Then one JSON object a line comes in, a cluster
// with pods that wait, and one goes out for each: which filters refuse which node to which pod, and why. Each filter is asked
// by itself: that another one refuses the node as well hides nothing.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"k8s.io/kubernetes/pkg/scheduler/metrics"
)

func main() {
	metrics.Register()
	out := bufio.NewWriter(os.Stdout)
	err := serve(context.Background(), os.Stdin, out)
	if err := errors.Join(err, out.Flush()); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// longest is how long a case may be, in bytes.
const longest = 16 << 20

// greeting is the first line.
type greeting struct {
	Filters []string `json:"filters"`
}

// serve answers cases until there are no more.
func serve(ctx context.Context, in io.Reader, out *bufio.Writer) error {
	profile, err := defaultProfile()
	if err != nil {
		return err
	}
	names, err := profile.filterNames(ctx)
	if err != nil {
		return err
	}
	lines := json.NewEncoder(out)
	if err := lines.Encode(greeting{Filters: names}); err != nil {
		return err
	}
	cases := bufio.NewScanner(in)
	cases.Buffer(nil, longest)
	for {
		// Whoever asks may wait for this answer before the next question.
		if err := out.Flush(); err != nil {
			return err
		}
		if !cases.Scan() {
			return cases.Err()
		}
		if err := lines.Encode(profile.answer(ctx, cases.Bytes())); err != nil {
			return err
		}
	}
}
