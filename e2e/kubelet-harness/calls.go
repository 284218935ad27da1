// A plugin's Allocate, called by itself and timed: what the kubelet would wait for, without the kubelet's own work.
package main

import (
	"context"
	"time"

	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

// timed are nanoseconds that calls took, and how many of them were refused.
type timed struct {
	Nanoseconds []int64 `json:"nanoseconds"`
	Refused     int     `json:"refused"`
}

func timeAllocations(ctx context.Context, socket string, ids []string, times int) (*timed, error) {
	plugin, err := dial(socket)
	if err != nil {
		return nil, err
	}
	defer plugin.Close()
	client := api.NewDevicePluginClient(plugin)
	// The kubelet's connection is open long before.
	if _, err := client.GetDevicePluginOptions(ctx, &api.Empty{}); err != nil {
		return nil, err
	}
	taken := &timed{Nanoseconds: make([]int64, 0, times)}
	for range times {
		begun := time.Now()
		_, err := client.Allocate(ctx, &api.AllocateRequest{ContainerRequests: []*api.ContainerAllocateRequest{{DevicesIds: ids}}})
		taken.Nanoseconds = append(taken.Nanoseconds, time.Since(begun).Nanoseconds())
		if err != nil {
			taken.Refused++
		}
		time.Sleep(time.Millisecond)
	}
	return taken, nil
}
