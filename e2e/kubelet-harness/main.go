// The kubelet's own device manager and plugin manager, without a kubelet: no API server, no containers, no root's files.
//
// One JSON object a line goes in, one comes out for each, and between them what changes by itself (see protocol.go). The
// process is the kubelet's: to restart the kubelet, end it and start another. The kubelet's folders are hard-coded, so it
// runs in a mount namespace of its own, which whoever starts it makes.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"

	"k8s.io/klog/v2"
)

func main() {
	out := newOutput(os.Stdout)
	if err := serve(context.Background(), bufio.NewReader(os.Stdin), out); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
	klog.Flush()
}

// serve answers requests until there are no more.
func serve(ctx context.Context, in *bufio.Reader, out *output) error {
	lines := json.NewDecoder(in)
	var kubelet *kubelet
	doors := &doors{}
	for {
		var asked request
		if err := lines.Decode(&asked); err != nil {
			return nil // whoever asks has gone
		}
		if asked.Op == "start" {
			started, err := startKubelet(ctx, asked.Start, out)
			if err == nil {
				kubelet = started
			}
			out.answer(nil, err)
			continue
		}
		if kubelet == nil {
			return fmt.Errorf("%s before start", asked.Op)
		}
		answer, err := handle(ctx, kubelet, doors, &asked, out)
		out.answer(answer, err)
	}
}

// handle does one thing.
func handle(ctx context.Context, kubelet *kubelet, doors *doors, asked *request, out *output) (any, error) {
	switch asked.Op {
	case "counts":
		return kubelet.counts.all(), nil
	case "heard":
		kubelet.sources.heard.Store(true)
		return nil, nil
	case "admit":
		return kubelet.admit(ctx, asked.Pod), nil
	case "runContainer":
		return kubelet.runContainer(ctx, asked.UID, asked.Container)
	case "finish":
		kubelet.pods.finishes(asked.UID)
		return nil, nil
	case "remove":
		kubelet.pods.remove(asked.UID)
		return nil, nil
	case "status":
		return kubelet.status(asked.UID)
	case "podResources":
		return listPodResources(ctx)
	case "podResourcesV1alpha1":
		return listPodResourcesV1alpha1(ctx)
	case "podResourcesOf":
		return getPodResources(ctx, asked.Namespace, asked.Name)
	case "allocatableResources":
		return allocatableResources(ctx)
	case "door":
		return nil, doors.open(ctx, asked.Folder, asked.Registrations)
	case "fail":
		doors.fail(asked.Methods)
		return nil, nil
	case "calls":
		return doors.seen(), nil
	case "timeAllocations":
		return timeAllocations(ctx, asked.Socket, asked.IDs, asked.Times)
	case "apiServer":
		return startAPIServer(out)
	default:
		return nil, fmt.Errorf("nothing is known of %q", asked.Op)
	}
}
