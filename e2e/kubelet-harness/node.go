// The machine that the kubelet believes to run on, and its node as the API server would have it.
package main

import (
	"context"
	"fmt"

	cadvisorapi "github.com/google/cadvisor/lib/model"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/kubernetes/pkg/kubelet/cm/cpumanager"
	"k8s.io/utils/cpuset"
)

// machine has two NUMA nodes and that many CPUs, at least one on each.
func machine(cpus int) *cadvisorapi.MachineInfo {
	cpus = max(cpus, 2)
	info := &cadvisorapi.MachineInfo{NumCores: cpus, NumSockets: 2, NumPhysicalCores: cpus, Topology: []cadvisorapi.Node{{Id: 0}, {Id: 1}}}
	for cpu := range cpus {
		node := &info.Topology[cpu*2/cpus]
		node.Cores = append(node.Cores, cadvisorapi.Core{Id: cpu, Threads: []int{cpu}, SocketID: node.Id})
	}
	return info
}

// cpuPolicy is the CPU manager's, with the CPU that it keeps for the system, as the node tests have it.
func cpuPolicy(cpus int) (string, cpuset.CPUSet) {
	if cpus == 0 {
		return string(cpumanager.PolicyNone), cpuset.New()
	}
	return string(cpumanager.PolicyStatic), cpuset.New(1)
}

func reservation(cpus cpuset.CPUSet) v1.ResourceList {
	return v1.ResourceList{v1.ResourceCPU: *resource.NewQuantity(int64(cpus.Size()), resource.DecimalSI)}
}

// node has room for any pod, and those devices that the device manager counts.
func (k *kubelet) node(context.Context, bool) (*v1.Node, error) {
	room := func() v1.ResourceList {
		return v1.ResourceList{
			v1.ResourceCPU:    resource.MustParse("64"),
			v1.ResourceMemory: resource.MustParse("1Ti"),
			v1.ResourcePods:   resource.MustParse("110"),
		}
	}
	capacity, allocatable := room(), room()
	for name, count := range k.counts.all() {
		capacity[v1.ResourceName(name)] = *resource.NewQuantity(count.Capacity, resource.DecimalSI)
		allocatable[v1.ResourceName(name)] = *resource.NewQuantity(count.Allocatable, resource.DecimalSI)
	}
	return &v1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "node"},
		Status:     v1.NodeStatus{Capacity: capacity, Allocatable: allocatable},
	}, nil
}

// container is a pod's, and the pod.
func (p *pods) container(uid, name string) (*v1.Pod, *v1.Container, error) {
	pod := p.find(uid)
	if pod == nil {
		return nil, nil, fmt.Errorf("no pod %s is active", uid)
	}
	for _, containers := range [][]v1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range containers {
			if containers[i].Name == name {
				return pod, &containers[i], nil
			}
		}
	}
	return nil, nil, fmt.Errorf("pod %s has no container %s", pod.Name, name)
}
