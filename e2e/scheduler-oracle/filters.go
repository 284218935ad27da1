package main

import (
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/apis/config"
	"k8s.io/kubernetes/pkg/scheduler/apis/config/latest"
	internalcache "k8s.io/kubernetes/pkg/scheduler/backend/cache"
	"k8s.io/kubernetes/pkg/scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/names"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/nodevolumelimits"
	frameworkruntime "k8s.io/kubernetes/pkg/scheduler/framework/runtime"
)

// leftOut are plugins of the default profile that aren't asked: claims of devices are no part of the comparison, and
// the others would need a whole scheduler and filter nothing.
var leftOut = sets.New(names.DynamicResources, names.DefaultPreemption)

// profile is kube-scheduler's default one, its feature gates at their defaults.
type profile struct {
	registry frameworkruntime.Registry
	plugins  []string
	args     map[string]runtime.Object
}

// answer says of each incoming pod, in their order, which filters refuse which nodes.
type answer struct {
	Incoming []verdicts `json:"incoming"`
	// Invalid says which objects no API server would have taken.
	Invalid []string `json:"invalid,omitempty"`
	// Fault says why there is no answer: a case that isn't one, or one that a filter doesn't survive.
	Fault string `json:"fault,omitempty"`
}

type verdicts struct {
	Refusals []refusal `json:"refusals"`
}

type refusal struct {
	Node    string `json:"node"`
	Filter  string `json:"filter"`
	Message string `json:"message"`
}

func defaultProfile() (*profile, error) {
	defaults, err := latest.Default()
	if err != nil {
		return nil, fmt.Errorf("default configuration: %w", err)
	}
	var taken config.KubeSchedulerProfile = defaults.Profiles[0]
	found := &profile{registry: plugins.NewInTreeRegistry(), args: map[string]runtime.Object{}}
	for _, plugin := range taken.Plugins.MultiPoint.Enabled {
		if !leftOut.Has(plugin.Name) {
			found.plugins = append(found.plugins, plugin.Name)
		}
	}
	for _, one := range taken.PluginConfig {
		found.args[one.Name] = one.Args
	}
	return found, nil
}

// filters makes the profile's plugins that filter, for one cluster.
func (p *profile) filters(ctx context.Context, of *cluster) ([]fwk.FilterPlugin, *internalcache.Snapshot, error) {
	factory, err := of.informers()
	if err != nil {
		return nil, nil, err
	}
	snapshot := internalcache.NewEmptySnapshot()
	handle, err := frameworkruntime.NewFramework(ctx, p.registry, nil,
		frameworkruntime.WithInformerFactory(factory),
		frameworkruntime.WithSnapshotSharedLister(snapshot),
		frameworkruntime.WithMutableSnapshotLister(snapshot),
		frameworkruntime.WithSharedCSIManager(nodevolumelimits.NewCSIManager(factory.Storage().V1().CSINodes().Lister())),
	)
	if err != nil {
		return nil, nil, fmt.Errorf("make the framework: %w", err)
	}
	var filters []fwk.FilterPlugin
	for _, name := range p.plugins {
		made, err := p.registry[name](ctx, p.args[name], handle)
		if err != nil {
			return nil, nil, fmt.Errorf("make plugin %s: %w", name, err)
		}
		if filter, isFilter := made.(fwk.FilterPlugin); isFilter {
			filters = append(filters, filter)
		}
	}
	return filters, snapshot, of.fill(ctx, snapshot)
}

func (p *profile) filterNames(ctx context.Context) ([]string, error) {
	filters, _, err := p.filters(ctx, &cluster{})
	var found []string
	for _, filter := range filters {
		found = append(found, filter.Name())
	}
	return found, err
}

// answer is what one line of JSON is answered with, whatever is in it.
func (p *profile) answer(ctx context.Context, line []byte) (told *answer) {
	defer func() {
		if fault := recover(); fault != nil {
			told = &answer{Fault: fmt.Sprintf("a filter panics: %v", fault)}
		}
	}()
	var asked cluster
	if err := json.Unmarshal(line, &asked); err != nil {
		return &answer{Fault: fmt.Sprintf("read the case: %v", err)}
	}
	told, err := p.judge(ctx, &asked)
	if err != nil {
		return &answer{Fault: err.Error()}
	}
	return told
}

// judge asks each filter about each node for each incoming pod.
func (p *profile) judge(ctx context.Context, asked *cluster) (*answer, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	filters, snapshot, err := p.filters(ctx, asked)
	if err != nil {
		return nil, err
	}
	nodes, err := snapshot.NodeInfos().List()
	if err != nil {
		return nil, fmt.Errorf("list the nodes: %w", err)
	}
	told := &answer{Incoming: make([]verdicts, len(asked.Incoming)), Invalid: asked.invalid()}
	for i, pod := range asked.Incoming {
		told.Incoming[i].Refusals = []refusal{}
		state := framework.NewCycleState()
		for _, filter := range filters {
			refused := one(ctx, filter, state, pod, nodes)
			told.Incoming[i].Refusals = append(told.Incoming[i].Refusals, refused...)
		}
	}
	return told, nil
}

// one filter's refusals of a pod. Where it has something to say beforehand, it is asked that first: it may then have nothing
// to say of any node, refuse them all, or name those that remain.
func one(ctx context.Context, filter fwk.FilterPlugin, state fwk.CycleState, pod *corev1.Pod, nodes []fwk.NodeInfo) []refusal {
	var remaining *fwk.PreFilterResult
	var before *fwk.Status
	if first, isFirst := filter.(fwk.PreFilterPlugin); isFirst {
		remaining, before = first.PreFilter(ctx, state, pod, nodes)
		if before.IsSkip() {
			return nil
		}
	}
	var refused []refusal
	for _, node := range nodes {
		name := node.Node().Name
		status := before
		if status.IsSuccess() && !remaining.AllNodes() && !remaining.NodeNames.Has(name) {
			status = fwk.NewStatus(fwk.UnschedulableAndUnresolvable, "node isn't among those that remain")
		}
		if status.IsSuccess() {
			status = filter.Filter(ctx, state, pod, node)
		}
		if !status.IsSuccess() {
			refused = append(refused, refusal{Node: name, Filter: filter.Name(), Message: status.Message()})
		}
	}
	return refused
}
