package main

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// still is an informer of a cluster in which nothing happens: it holds what it was given, and has always been in sync.
type still struct {
	// What nobody asks of it here would be a nil pointer, and be seen at once.
	cache.SharedIndexInformer
	objects cache.Indexer
}

func (s *still) GetIndexer() cache.Indexer                 { return s.objects }
func (s *still) GetStore() cache.Store                     { return s.objects }
func (s *still) AddIndexers(indexers cache.Indexers) error { return s.objects.AddIndexers(indexers) }
func (s *still) HasSynced() bool                           { return true }

// AddEventHandler tells the handler of all that there is. It can be forgotten at once: nothing will ever change.
func (s *still) AddEventHandler(handler cache.ResourceEventHandler) (cache.ResourceEventHandlerRegistration, error) {
	for _, object := range s.objects.List() {
		handler.OnAdd(object, true)
	}
	return nil, nil
}

// hold lets the factory's informer of this kind be a still one with these objects.
func hold[T runtime.Object](factory informers.SharedInformerFactory, kind T, objects []T) error {
	indexers := cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc}
	held := &still{objects: cache.NewIndexer(cache.MetaNamespaceKeyFunc, indexers)}
	for _, object := range objects {
		if err := held.objects.Add(object); err != nil {
			return fmt.Errorf("hold a %T: %w", kind, err)
		}
	}
	factory.InformerFor(kind, func(kubernetes.Interface, time.Duration) cache.SharedIndexInformer { return held })
	return nil
}
