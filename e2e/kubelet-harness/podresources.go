// The kubelet's pod-resources server on its own socket, and a client of it.
package main

import (
	"context"
	"time"

	"google.golang.org/grpc"
	v1 "k8s.io/api/core/v1"
	criutil "k8s.io/cri-client/pkg/util"
	"k8s.io/klog/v2"
	resourcesapi "k8s.io/kubelet/pkg/apis/podresources/v1"
	resourcesv1alpha1 "k8s.io/kubelet/pkg/apis/podresources/v1alpha1"
	apisgrpc "k8s.io/kubernetes/pkg/kubelet/apis/grpc"
	"k8s.io/kubernetes/pkg/kubelet/apis/podresources"
	"k8s.io/kubernetes/pkg/kubelet/cm/devicemanager"
	"k8s.io/kubernetes/pkg/kubelet/util"
	"k8s.io/utils/cpuset"
)

const (
	patience = 10 * time.Second
	largest  = 16 << 20
)

// providers answer what the server asks: devices and CPUs from their managers, nothing of memory and claims.
type providers struct{ *kubelet }

func (p providers) UpdateAllocatedDevices(logger klog.Logger) {
	p.devices.UpdateAllocatedDevices(logger)
}

func (p providers) GetDevices(uid, container string) []*resourcesapi.ContainerDevices {
	return containerDevices(p.devices.GetDevices(uid, container))
}

func (p providers) GetAllocatableDevices(logger klog.Logger) []*resourcesapi.ContainerDevices {
	return containerDevices(p.devices.GetAllocatableDevices(logger))
}

func (p providers) GetCPUs(pod *v1.Pod, container *v1.Container) []int64 {
	return numbers(p.cpus.GetExclusiveCPUs(string(pod.UID), container.Name))
}

func (p providers) GetPodCPUs(uid string) []int64 {
	return numbers(p.cpus.GetPodCPUs(uid))
}

func (p providers) GetAllocatableCPUs() []int64 {
	return numbers(p.cpus.GetAllocatableCPUs())
}

func numbers(cpus cpuset.CPUSet) []int64 {
	var numbers []int64
	for _, cpu := range cpus.List() {
		numbers = append(numbers, int64(cpu))
	}
	return numbers
}

func (providers) GetMemory(klog.Logger, *v1.Pod, *v1.Container) []*resourcesapi.ContainerMemory {
	return nil
}
func (providers) GetPodMemory(klog.Logger, string) []*resourcesapi.ContainerMemory { return nil }
func (providers) GetAllocatableMemory(klog.Logger) []*resourcesapi.ContainerMemory { return nil }
func (providers) GetDynamicResources(klog.Logger, *v1.Pod, *v1.Container) []*resourcesapi.DynamicResource {
	return nil
}

// containerDevices tells devices as the kubelet's container manager does: one entry for each, and for each NUMA node.
func containerDevices(devices devicemanager.ResourceDeviceInstances) []*resourcesapi.ContainerDevices {
	var told []*resourcesapi.ContainerDevices
	for name, instances := range devices {
		for id, device := range instances {
			if device.GetTopology() == nil {
				told = append(told, &resourcesapi.ContainerDevices{ResourceName: name, DeviceIds: []string{id}})
				continue
			}
			for _, node := range device.GetTopology().GetNodes() {
				near := &resourcesapi.TopologyInfo{Nodes: []*resourcesapi.NUMANode{{ID: node.GetID()}}}
				told = append(told, &resourcesapi.ContainerDevices{ResourceName: name, DeviceIds: []string{id}, Topology: near})
			}
		}
	}
	return told
}

func servePodResources(ctx context.Context, k *kubelet) error {
	endpoint, err := util.LocalEndpoint(podResources, podresources.Socket)
	if err != nil {
		return err
	}
	listener, err := criutil.CreateListener(endpoint)
	if err != nil {
		return err
	}
	asked := podresources.PodResourcesProviders{Pods: k.pods, Devices: providers{k}, Cpus: providers{k}, Memory: providers{k}, DynamicResources: providers{k}}
	server := grpc.NewServer(apisgrpc.WithRateLimiter(ctx, "podresources", podresources.DefaultQPS, podresources.DefaultBurstTokens))
	resourcesv1alpha1.RegisterPodResourcesListerServer(server, podresources.NewV1alpha1PodResourcesServer(asked))
	resourcesapi.RegisterPodResourcesListerServer(server, podresources.NewV1PodResourcesServer(ctx, asked))
	go func() {
		if err := server.Serve(listener); err != nil {
			klog.FromContext(ctx).Error(err, "the pod-resources server ended")
		}
	}()
	return nil
}

// withClient asks the server through its socket, as anybody on the node would.
func withClient[T any](ctx context.Context, ask func(context.Context, resourcesapi.PodResourcesListerClient) (T, error)) (T, error) {
	var nothing T
	endpoint, err := util.LocalEndpoint(podResources, podresources.Socket)
	if err != nil {
		return nothing, err
	}
	client, connection, err := podresources.GetV1Client(ctx, endpoint, patience, largest)
	if err != nil {
		return nothing, err
	}
	defer connection.Close()
	return ask(ctx, client)
}

func listPodResources(ctx context.Context) (any, error) {
	return withClient(ctx, func(ctx context.Context, client resourcesapi.PodResourcesListerClient) (any, error) {
		response, err := client.List(ctx, &resourcesapi.ListPodResourcesRequest{})
		return response.GetPodResources(), err
	})
}

func getPodResources(ctx context.Context, namespace, name string) (any, error) {
	return withClient(ctx, func(ctx context.Context, client resourcesapi.PodResourcesListerClient) (any, error) {
		response, err := client.Get(ctx, &resourcesapi.GetPodResourcesRequest{PodNamespace: namespace, PodName: name})
		return response.GetPodResources(), err
	})
}

func allocatableResources(ctx context.Context) (any, error) {
	return withClient(ctx, func(ctx context.Context, client resourcesapi.PodResourcesListerClient) (any, error) {
		return client.GetAllocatableResources(ctx, &resourcesapi.AllocatableResourcesRequest{})
	})
}

func listPodResourcesV1alpha1(ctx context.Context) (any, error) {
	endpoint, err := util.LocalEndpoint(podResources, podresources.Socket)
	if err != nil {
		return nil, err
	}
	client, connection, err := podresources.GetV1alpha1Client(ctx, endpoint, patience, largest)
	if err != nil {
		return nil, err
	}
	defer connection.Close()
	response, err := client.List(ctx, &resourcesv1alpha1.ListPodResourcesRequest{})
	return response.GetPodResources(), err
}
