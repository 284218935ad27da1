// A door between a plugin and the kubelet, for what no good plugin does by itself: calls that fail, registrations that
// aren't repeated. It takes registrations in a folder of its own, passes them on, and stands in front of each socket.
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

// doors are what stands between the kubelet and one plugin.
type doors struct {
	mutex sync.Mutex
	// behind is the folder in which the plugin is.
	behind string
	// left is how many registrations are still passed on.
	left int
	// failing are the methods that fail; changed is closed whenever they become others.
	failing []string
	changed chan struct{}
	passed  []*passed

	api.UnsafeRegistrationServer
}

// passed is one registration, and what the kubelet called after it.
type passed struct {
	Endpoint string   `json:"endpoint"`
	Error    string   `json:"error,omitempty"`
	Calls    []string `json:"calls"`
}

// open begins to take registrations in the folder, of which so many are passed on.
func (d *doors) open(_ context.Context, folder string, registrations int) error {
	d.behind, d.left, d.changed = folder, registrations, make(chan struct{})
	listener, err := net.Listen("unix", filepath.Join(folder, filepath.Base(api.KubeletSocket)))
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	api.RegisterRegistrationServer(server, d)
	go func() { _ = server.Serve(listener) }()
	return nil
}

// fail makes these methods fail from now on, and no others; streams that are open end.
func (d *doors) fail(methods []string) {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	d.failing = methods
	close(d.changed)
	d.changed = make(chan struct{})
}

func (d *doors) seen() []passed {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	seen := []passed{}
	for _, one := range d.passed {
		seen = append(seen, passed{Endpoint: one.Endpoint, Error: one.Error, Calls: slices.Clone(one.Calls)})
	}
	return seen
}

// Register passes a plugin's registration on.
func (d *doors) Register(ctx context.Context, asked *api.RegisterRequest) (*api.Empty, error) {
	one, err := d.admit(asked.Endpoint)
	if err != nil {
		return nil, err
	}
	front := filepath.Join(filepath.Dir(api.KubeletSocket), asked.Endpoint)
	if err := d.stand(front, one); err != nil {
		return nil, err
	}
	kubelet, err := dial(api.KubeletSocket)
	if err != nil {
		return nil, err
	}
	defer kubelet.Close()
	answer, err := api.NewRegistrationClient(kubelet).Register(ctx, asked)
	if err != nil {
		d.mutex.Lock()
		one.Error = err.Error()
		d.mutex.Unlock()
	}
	return answer, err
}

func (d *doors) admit(endpoint string) (*passed, error) {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	if d.left == 0 {
		return nil, fmt.Errorf("this door passes no more registrations on")
	}
	d.left--
	one := &passed{Endpoint: endpoint, Calls: []string{}}
	d.passed = append(d.passed, one)
	return one, nil
}

// stand serves at the front what the plugin serves behind.
func (d *doors) stand(front string, one *passed) error {
	plugin, err := dial(filepath.Join(d.behind, one.Endpoint))
	if err != nil {
		return err
	}
	_ = os.Remove(front)
	listener, err := net.Listen("unix", front)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	api.RegisterDevicePluginServer(server, &door{doors: d, one: one, plugin: api.NewDevicePluginClient(plugin)})
	go func() { _ = server.Serve(listener) }()
	return nil
}

func dial(socket string) (*grpc.ClientConn, error) {
	return grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("localhost"))
}

// enter notes a call; the error is what a failing method says.
func (d *doors) enter(one *passed, method string) (<-chan struct{}, error) {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	one.Calls = append(one.Calls, method)
	return d.changed, d.fault(method)
}

func (d *doors) fault(method string) error {
	if slices.Contains(d.failing, method) {
		return fmt.Errorf("%s failed", method)
	}
	return nil
}
