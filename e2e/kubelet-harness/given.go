// What a container gets of its devices.
package main

import (
	"slices"

	"k8s.io/kubernetes/pkg/kubelet/cm/devicemanager"
)

// given is what the kubelet hands to the container runtime, and the devices that it believes the container to have.
type given struct {
	// Devices are IDs, by resource.
	Devices     map[string][]string `json:"devices"`
	Envs        map[string]string   `json:"envs"`
	Annotations map[string]string   `json:"annotations"`
	// Mounts and Nodes are paths in the container.
	Mounts []string `json:"mounts"`
	Nodes  []string `json:"nodes"`
	// CDI are fully qualified names.
	CDI []string `json:"cdi"`
}

func newGiven(devices devicemanager.ResourceDeviceInstances, options *devicemanager.DeviceRunContainerOptions) *given {
	g := &given{Devices: map[string][]string{}, Envs: map[string]string{}, Annotations: map[string]string{}, Mounts: []string{}, Nodes: []string{}, CDI: []string{}}
	for name, instances := range devices {
		for id := range instances {
			g.Devices[name] = append(g.Devices[name], id)
		}
		slices.Sort(g.Devices[name])
	}
	if options == nil {
		return g
	}
	for _, env := range options.Envs {
		g.Envs[env.Name] = env.Value
	}
	for _, annotation := range options.Annotations {
		g.Annotations[annotation.Name] = annotation.Value
	}
	for _, mount := range options.Mounts {
		g.Mounts = append(g.Mounts, mount.ContainerPath)
	}
	for _, node := range options.Devices {
		g.Nodes = append(g.Nodes, node.PathInContainer)
	}
	for _, device := range options.CDIDevices {
		g.CDI = append(g.CDI, device.Name)
	}
	return g
}
