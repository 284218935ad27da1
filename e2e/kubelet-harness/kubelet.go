// The managers, wired as the kubelet's container manager wires them, and the way in which a pod is admitted.
package main

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	cadvisorapi "github.com/google/cadvisor/lib/model"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/client-go/tools/record"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"
	registerapi "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
	"k8s.io/kubernetes/pkg/kubelet/cm/containermap"
	"k8s.io/kubernetes/pkg/kubelet/cm/cpumanager"
	"k8s.io/kubernetes/pkg/kubelet/cm/devicemanager"
	"k8s.io/kubernetes/pkg/kubelet/cm/topologymanager"
	"k8s.io/kubernetes/pkg/kubelet/config"
	"k8s.io/kubernetes/pkg/kubelet/lifecycle"
	"k8s.io/kubernetes/pkg/kubelet/pluginmanager"
)

const (
	root         = "/var/lib/kubelet"
	registry     = root + "/plugins_registry"
	podResources = root + "/pod-resources"
	podsAPI      = root + "/pods-api"
)

// kubelet is what there is of one.
type kubelet struct {
	logger   klog.Logger
	devices  *devicemanager.ManagerImpl
	cpus     cpumanager.Manager
	handlers []lifecycle.PodAdmitHandler
	pods     *pods
	sources  *sources
	counts   *counts
}

// sources says whether the pods that the API server has were all heard of.
type sources struct{ heard atomic.Bool }

func (*sources) AddSource(string) {}
func (s *sources) AllReady() bool { return s.heard.Load() }

var _ config.SourcesReady = &sources{}

// noRuntime is a container runtime and a cache of pods' statuses of which nothing is known.
type noRuntime struct{}

func (noRuntime) UpdateContainerResources(context.Context, string, *runtimeapi.ContainerResources) error {
	return nil
}
func (noRuntime) GetPodStatus(types.UID) (v1.PodStatus, bool) { return v1.PodStatus{}, false }

// startKubelet starts the managers in the kubelet's order: topology, devices, CPUs, then the plugin manager.
func startKubelet(ctx context.Context, how startRequest, out *output) (*kubelet, error) {
	logger := klog.FromContext(ctx)
	for _, folder := range []string{root, registry, podResources} {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return nil, err
		}
	}
	machine := machine(how.CPUs)
	topology, err := topologymanager.NewManager(logger, machine.Topology, topologymanager.PolicyNone, topologymanager.ContainerTopologyScope, nil)
	if err != nil {
		return nil, err
	}
	devices, err := devicemanager.NewManagerImpl(logger, machine.Topology, topology)
	if err != nil {
		return nil, err
	}
	topology.AddHintProvider(logger, devices)
	k := &kubelet{logger: logger, devices: devices, sources: &sources{}, counts: newCounts()}
	if k.pods, err = newPods(ctx, k.sources); err != nil {
		return nil, err
	}
	containers, running := found(how.Running)
	if err := k.startCPUs(ctx, how, machine, topology, containers.Clone()); err != nil {
		return nil, err
	}
	if err := devices.Start(logger, k.pods.active, k.sources, containers, running); err != nil {
		return nil, err
	}
	k.handlers = []lifecycle.PodAdmitHandler{
		topology,
		lifecycle.NewPredicateAdmitHandler(k.node, noRemedy{}, devices.UpdatePluginResources),
	}
	plugins := pluginmanager.NewPluginManager(registry, record.NewFakeRecorder(100))
	plugins.AddHandler(registerapi.DevicePlugin, devices.GetWatcherHandler())
	go plugins.Run(ctx, k.sources, nil)
	go k.counts.watch(logger, devices, out)
	return k, servePodResources(ctx, k)
}

func (k *kubelet) startCPUs(ctx context.Context, how startRequest, machine *cadvisorapi.MachineInfo, topology topologymanager.Manager, containers containermap.ContainerMap) error {
	policy, reserved := cpuPolicy(how.CPUs)
	cpus, err := cpumanager.NewManager(k.logger, policy, nil, time.Second, machine, reserved, reservation(reserved), root, topology)
	if err != nil {
		return err
	}
	topology.AddHintProvider(k.logger, cpus)
	k.cpus = cpus
	return cpus.Start(ctx, k.pods.active, k.sources, noRuntime{}, noRuntime{}, containers)
}

// found is what the container runtime tells a kubelet that starts.
func found(running []runningContainer) (containermap.ContainerMap, sets.Set[string]) {
	containers, ids := containermap.NewContainerMap(), sets.New[string]()
	for _, one := range running {
		id := one.UID + "/" + one.Container
		containers.Add(one.UID, one.Container, id)
		ids.Insert(id)
	}
	return containers, ids
}

// admitted says what became of a pod.
type admitted struct {
	Admitted bool   `json:"admitted"`
	Reason   string `json:"reason,omitempty"`
	Message  string `json:"message,omitempty"`
}

// admit does with a pod what the kubelet does: the handlers one after the other, and the pod counts as active meanwhile.
func (k *kubelet) admit(ctx context.Context, pod *v1.Pod) admitted {
	others := k.pods.active()
	k.pods.add(pod)
	attributes := &lifecycle.PodAdmitAttributes{Pod: pod, OtherPods: others, Operation: lifecycle.AddOperation}
	for _, handler := range k.handlers {
		if result := handler.Admit(ctx, attributes); !result.Admit {
			k.pods.remove(string(pod.UID))
			return admitted{Reason: result.Reason, Message: result.Message}
		}
	}
	return admitted{Admitted: true}
}

// runContainer is what the kubelet does each time that it makes a container, the first time and at each restart.
func (k *kubelet) runContainer(ctx context.Context, uid, name string) (*given, error) {
	pod, container, err := k.pods.container(uid, name)
	if err != nil {
		return nil, err
	}
	options, err := k.devices.GetDeviceRunContainerOptions(ctx, pod, container)
	if err != nil {
		return nil, err
	}
	k.pods.runs(pod, name)
	return newGiven(k.devices.GetDevices(uid, name), options), nil
}

// status is what the pod's status says of its devices, by container.
func (k *kubelet) status(uid string) (map[string][]v1.ResourceStatus, error) {
	pod := k.pods.find(uid)
	if pod == nil {
		return nil, fmt.Errorf("no pod %s is active", uid)
	}
	status := &v1.PodStatus{}
	for _, container := range pod.Spec.Containers {
		status.ContainerStatuses = append(status.ContainerStatuses, v1.ContainerStatus{Name: container.Name})
	}
	k.devices.UpdateAllocatedResourcesStatus(k.logger, pod, status)
	told := map[string][]v1.ResourceStatus{}
	for _, container := range status.ContainerStatuses {
		told[container.Name] = container.AllocatedResourcesStatus
	}
	return told, nil
}

// noRemedy evicts nobody to make room.
type noRemedy struct{}

func (noRemedy) HandleAdmissionFailure(_ context.Context, _ *v1.Pod, reasons []lifecycle.PredicateFailureReason, _ lifecycle.Operation) ([]lifecycle.PredicateFailureReason, error) {
	return reasons, nil
}
