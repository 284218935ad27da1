// What the kubelet calls at a door, passed on to the plugin behind it unless it shall fail.
package main

import (
	"context"

	"google.golang.org/grpc"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

// door stands in front of one socket.
type door struct {
	doors  *doors
	one    *passed
	plugin api.DevicePluginClient

	api.UnsafeDevicePluginServer
}

// pass calls the plugin, unless the method shall fail.
func pass[Asked, Answer any](ctx context.Context, d *door, method string, asked Asked, call func(context.Context, Asked, ...grpc.CallOption) (Answer, error)) (Answer, error) {
	if _, err := d.doors.enter(d.one, method); err != nil {
		var nothing Answer
		return nothing, err
	}
	return call(ctx, asked)
}

func (d *door) GetDevicePluginOptions(ctx context.Context, asked *api.Empty) (*api.DevicePluginOptions, error) {
	return pass(ctx, d, "GetDevicePluginOptions", asked, d.plugin.GetDevicePluginOptions)
}

func (d *door) GetPreferredAllocation(ctx context.Context, asked *api.PreferredAllocationRequest) (*api.PreferredAllocationResponse, error) {
	return pass(ctx, d, "GetPreferredAllocation", asked, d.plugin.GetPreferredAllocation)
}

func (d *door) Allocate(ctx context.Context, asked *api.AllocateRequest) (*api.AllocateResponse, error) {
	return pass(ctx, d, "Allocate", asked, d.plugin.Allocate)
}

func (d *door) PreStartContainer(ctx context.Context, asked *api.PreStartContainerRequest) (*api.PreStartContainerResponse, error) {
	return pass(ctx, d, "PreStartContainer", asked, d.plugin.PreStartContainer)
}

// ListAndWatch passes lists on until the plugin ends, or the method shall fail.
func (d *door) ListAndWatch(asked *api.Empty, to api.DevicePlugin_ListAndWatchServer) error {
	changed, err := d.doors.enter(d.one, "ListAndWatch")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(to.Context())
	defer cancel()
	go func() {
		select {
		case <-changed:
			cancel()
		case <-ctx.Done():
		}
	}()
	from, err := d.plugin.ListAndWatch(ctx, asked)
	for err == nil {
		var list *api.ListAndWatchResponse
		if list, err = from.Recv(); err == nil {
			err = to.Send(list)
		}
	}
	return err
}
