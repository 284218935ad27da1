// As much of an API server as a device plugin needs: it keeps what is written, over TLS, and tells of each write.
package main

import (
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// objects are what was written, by path.
type objects struct {
	mutex sync.Mutex
	kept  map[string]map[string]any
	out   *output
}

// written is one write.
type written struct {
	Path   string         `json:"path"`
	Object map[string]any `json:"object"`
}

// startAPIServer serves, and answers where, and who vouches for it.
func startAPIServer(out *output) (any, error) {
	authority, certificate, err := certify()
	if err != nil {
		return nil, err
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate}, NextProtos: []string{"h2", "http/1.1"},
	})
	if err != nil {
		return nil, err
	}
	server := &http.Server{Handler: &objects{kept: map[string]map[string]any{}, out: out}, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(listener) }()
	port := listener.Addr().(*net.TCPAddr).Port
	return map[string]any{"host": "127.0.0.1", "port": port, "authority": string(authority)}, nil
}

func (o *objects) ServeHTTP(to http.ResponseWriter, asked *http.Request) {
	to.Header().Set("Content-Type", "application/json")
	path := strings.TrimSuffix(asked.URL.Path, "/status")
	if asked.Method == http.MethodGet {
		o.read(to, path)
		return
	}
	body, err := io.ReadAll(asked.Body)
	change := map[string]any{}
	if err == nil {
		err = json.Unmarshal(body, &change)
	}
	if err != nil {
		refuse(to, http.StatusBadRequest, err.Error())
		return
	}
	at := time.Now().UnixNano()
	o.out.tell("written", at, written{Path: asked.URL.Path, Object: change})
	o.write(to, path, change)
}

func (o *objects) read(to http.ResponseWriter, path string) {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	object, known := o.kept[path]
	switch {
	case known:
	case strings.Contains(path, "/nodes/"):
		object = named(path, "v1", "Node")
	default:
		refuse(to, http.StatusNotFound, path+" was never written")
		return
	}
	_ = json.NewEncoder(to).Encode(object) // who hung up needs no answer
}

func named(path, version, kind string) map[string]any {
	metadata := map[string]any{"name": filepath.Base(path), "uid": "node", "resourceVersion": "1"}
	return map[string]any{"apiVersion": version, "kind": kind, "metadata": metadata}
}

// write lays the change over what there was, whatever kind of patch it is, and answers what there is now.
func (o *objects) write(to http.ResponseWriter, path string, change map[string]any) {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	object, known := o.kept[path]
	if !known {
		object = map[string]any{}
	}
	overlay(object, change)
	o.kept[path] = object
	_ = json.NewEncoder(to).Encode(object)
}

// overlay takes away what the change says is null, as a merge patch does.
func overlay(object, change map[string]any) {
	for name, value := range change {
		inner, isObject := value.(map[string]any)
		switch {
		case value == nil:
			delete(object, name)
		case isObject:
			outer, wasObject := object[name].(map[string]any)
			if !wasObject {
				outer = map[string]any{}
			}
			overlay(outer, inner)
			object[name] = outer
		default:
			object[name] = value
		}
	}
}

func refuse(to http.ResponseWriter, code int, why string) {
	to.WriteHeader(code)
	reason := map[int]string{http.StatusNotFound: "NotFound", http.StatusBadRequest: "BadRequest"}[code]
	status := map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": why, "code": code}
	_ = json.NewEncoder(to).Encode(status)
}
