// How many devices of each resource the device manager counts, looked at every millisecond; each change is told.
package main

import (
	"maps"
	"sync"
	"time"

	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/kubelet/cm/devicemanager"
)

// every is how often it is looked.
const every = time.Millisecond

// count is what a node's status says of one resource.
type count struct {
	Capacity    int64 `json:"capacity"`
	Allocatable int64 `json:"allocatable"`
}

// counted is one change.
type counted struct {
	Resource string `json:"resource"`
	count
}

type counts struct {
	mutex sync.Mutex
	now   map[string]count
}

func newCounts() *counts {
	return &counts{now: map[string]count{}}
}

func (c *counts) all() map[string]count {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return maps.Clone(c.now)
}

func (c *counts) watch(logger klog.Logger, devices *devicemanager.ManagerImpl, out *output) {
	for range time.Tick(every) {
		now := look(logger, devices)
		at := time.Now().UnixNano()
		for _, change := range c.take(now) {
			out.tell("count", at, change)
		}
	}
}

// look is how the kubelet fills in its node's status: a resource that is given up stays there, with none.
func look(logger klog.Logger, devices *devicemanager.ManagerImpl) map[string]count {
	capacity, allocatable, gone := devices.GetCapacity(logger)
	now := map[string]count{}
	for name, quantity := range capacity {
		free := allocatable[name]
		now[string(name)] = count{Capacity: quantity.Value(), Allocatable: free.Value()}
	}
	for _, name := range gone {
		now[name] = count{}
	}
	return now
}

func (c *counts) take(now map[string]count) []counted {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	var changes []counted
	for name, count := range now {
		if was, known := c.now[name]; !known || was != count {
			c.now[name] = count
			changes = append(changes, counted{Resource: name, count: count})
		}
	}
	return changes
}
