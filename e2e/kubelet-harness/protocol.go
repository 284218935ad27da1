// What goes in and out: one JSON object a line.
package main

import (
	"encoding/json"
	"io"
	"sync"

	v1 "k8s.io/api/core/v1"
)

// request is one line in. Which fields count depends on op.
type request struct {
	Op string `json:"op"`
	// start
	Start startRequest `json:"start"`
	// admit
	Pod *v1.Pod `json:"pod"`
	// runContainer, finish, remove, status
	UID       string `json:"uid"`
	Container string `json:"container"`
	// podResourcesOf
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// door
	Folder        string `json:"folder"`
	Registrations int    `json:"registrations"`
	// timeAllocations
	Socket string   `json:"socket"`
	IDs    []string `json:"ids"`
	Times  int      `json:"times"`
	// fail
	Methods []string `json:"methods"`
}

// startRequest says what a kubelet that starts finds on its node.
type startRequest struct {
	// CPUs is how many there are for the static CPU manager; 0 is a node whose CPU manager has the policy none.
	CPUs int `json:"cpus"`
	// Running are the containers that the container runtime says are running.
	Running []runningContainer `json:"running"`
}

type runningContainer struct {
	UID       string `json:"uid"`
	Container string `json:"container"`
}

// answer is one line out for one in.
type answer struct {
	Answer any    `json:"answer"`
	Error  string `json:"error,omitempty"`
}

// event is one line out that nobody asked for.
type event struct {
	Event string `json:"event"`
	// At is when, in nanoseconds of Unix time.
	At    int64 `json:"at"`
	Value any   `json:"value"`
}

// output writes whole lines, from several goroutines.
type output struct {
	mutex sync.Mutex
	lines *json.Encoder
}

func newOutput(to io.Writer) *output {
	return &output{lines: json.NewEncoder(to)}
}

func (o *output) answer(value any, err error) {
	line := answer{Answer: value}
	if err != nil {
		line = answer{Error: err.Error()}
	}
	o.write(line)
}

func (o *output) tell(name string, at int64, value any) {
	o.write(event{Event: name, At: at, Value: value})
}

func (o *output) write(line any) {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	_ = o.lines.Encode(line) // nobody is left to be told that nobody reads
}
