// The pods that are active on the node, how they are, and the kubelet's Pods API that tells of them.
package main

import (
	"context"
	"os"
	"slices"
	"sync"

	"google.golang.org/grpc"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	criutil "k8s.io/cri-client/pkg/util"
	"k8s.io/klog/v2"
	podsapi "k8s.io/kubelet/pkg/apis/pods/v1alpha1"
	podsserver "k8s.io/kubernetes/pkg/kubelet/apis/pods"
	"k8s.io/kubernetes/pkg/kubelet/config"
	"k8s.io/kubernetes/pkg/kubelet/pod"
	"k8s.io/kubernetes/pkg/kubelet/util"
)

// pods are in the order in which they came.
type pods struct {
	logger klog.Logger
	// manager is the kubelet's own, which its Pods API asks.
	manager pod.Manager
	api     *podsserver.PodsServer

	mutex    sync.Mutex
	list     []*v1.Pod
	statuses map[types.UID]v1.PodStatus
}

// newPods also serves the Pods API on the kubelet's socket.
func newPods(ctx context.Context, heard config.SourcesReady) (*pods, error) {
	p := &pods{logger: klog.FromContext(ctx), manager: pod.NewBasicPodManager(), statuses: map[types.UID]v1.PodStatus{}}
	p.api = podsserver.NewPodsServer(podsserver.NewBroadcaster(ctx), p.manager, p, heard)
	if err := os.MkdirAll(podsAPI, 0o755); err != nil {
		return nil, err
	}
	endpoint, err := util.LocalEndpoint(podsAPI, podsserver.Socket)
	if err != nil {
		return nil, err
	}
	listener, err := criutil.CreateListener(endpoint)
	if err != nil {
		return nil, err
	}
	server := grpc.NewServer()
	podsapi.RegisterPodsServer(server, p.api)
	go func() { _ = server.Serve(listener) }()
	return p, nil
}

func (p *pods) active() []*v1.Pod {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return slices.Clone(p.list)
}

func (p *pods) add(pod *v1.Pod) {
	p.mutex.Lock()
	p.list = append(p.list, pod)
	p.mutex.Unlock()
	p.manager.AddPod(pod)
	p.becomes(pod, v1.PodStatus{Phase: v1.PodPending}, true)
}

func (p *pods) remove(uid string) {
	pod, known := p.manager.GetPodByUID(types.UID(uid))
	if !known {
		return
	}
	p.mutex.Lock()
	p.list = slices.DeleteFunc(p.list, func(other *v1.Pod) bool { return other == pod })
	delete(p.statuses, pod.UID)
	p.mutex.Unlock()
	p.manager.RemovePod(pod)
	p.api.OnPodRemoved(p.logger, pod)
}

// runs says that a container was made, and runs.
func (p *pods) runs(pod *v1.Pod, container string) {
	status, _ := p.GetPodStatus(pod.UID)
	status.Phase = v1.PodRunning
	now := v1.ContainerStatus{Name: container, State: v1.ContainerState{Running: &v1.ContainerStateRunning{StartedAt: metav1.Now()}}}
	others := slices.DeleteFunc(slices.Clone(status.ContainerStatuses), func(one v1.ContainerStatus) bool { return one.Name == container })
	status.ContainerStatuses = append(others, now)
	p.becomes(pod, status, false)
}

// finishes says that every container of a pod has ended well. It is active no more.
func (p *pods) finishes(uid string) {
	pod := p.find(uid)
	if pod == nil {
		return
	}
	status, _ := p.GetPodStatus(pod.UID)
	status.Phase = v1.PodSucceeded
	status.ContainerStatuses = slices.Clone(status.ContainerStatuses)
	for i := range status.ContainerStatuses {
		state := &status.ContainerStatuses[i].State
		ended := &v1.ContainerStateTerminated{FinishedAt: metav1.Now()}
		if state.Running != nil {
			ended.StartedAt = state.Running.StartedAt
		}
		*state = v1.ContainerState{Terminated: ended}
	}
	p.becomes(pod, status, false)
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.list = slices.DeleteFunc(p.list, func(other *v1.Pod) bool { return other == pod })
}

func (p *pods) becomes(pod *v1.Pod, status v1.PodStatus, isNew bool) {
	p.mutex.Lock()
	p.statuses[pod.UID] = status
	p.mutex.Unlock()
	p.api.OnPodUpdated(p.logger, pod, status, isNew)
}

func (p *pods) find(uid string) *v1.Pod {
	for _, pod := range p.active() {
		if string(pod.UID) == uid {
			return pod
		}
	}
	return nil
}

// GetPodStatus is what the Pods API asks.
func (p *pods) GetPodStatus(uid types.UID) (v1.PodStatus, bool) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	status, known := p.statuses[uid]
	return status, known
}

// GetActivePods, GetPods and GetPodByName are what the pod-resources server asks.
func (p *pods) GetActivePods() []*v1.Pod { return p.active() }
func (p *pods) GetPods() []*v1.Pod       { return p.active() }
func (p *pods) GetPodByName(namespace, name string) (*v1.Pod, bool) {
	for _, pod := range p.active() {
		if pod.Namespace == namespace && pod.Name == name {
			return pod, true
		}
	}
	return nil, false
}
