package main

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/client-go/informers"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/features"
	internalcache "k8s.io/kubernetes/pkg/scheduler/backend/cache"
)

// cluster is a case: all that there is, as an API server would store it.
type cluster struct {
	Nodes []*corev1.Node `json:"nodes"`
	// Pods are on nodes already, of whichever scheduler.
	Pods []*corev1.Pod `json:"pods"`
	// Incoming pods wait. Each is asked about by itself: none of them is on a node for the others.
	Incoming             []*corev1.Pod                   `json:"incoming"`
	Claims               []*corev1.PersistentVolumeClaim `json:"pvcs"`
	Volumes              []*corev1.PersistentVolume      `json:"pvs"`
	StorageClasses       []*storagev1.StorageClass       `json:"storageClasses"`
	CSINodes             []*storagev1.CSINode            `json:"csiNodes"`
	CSIDrivers           []*storagev1.CSIDriver          `json:"csiDrivers"`
	CSIStorageCapacities []*storagev1.CSIStorageCapacity `json:"csiStorageCapacities"`
	VolumeAttachments    []*storagev1.VolumeAttachment   `json:"volumeAttachments"`
	Namespaces           []*corev1.Namespace             `json:"namespaces"`
}

// informers hold what the filters look up beside nodes and pods.
func (c *cluster) informers() (informers.SharedInformerFactory, error) {
	factory := informers.NewSharedInformerFactory(nil, 0)
	return factory, errors.Join(
		hold(factory, &corev1.Node{}, c.Nodes),
		hold(factory, &corev1.Pod{}, c.living()),
		hold(factory, &corev1.PersistentVolumeClaim{}, c.Claims),
		hold(factory, &corev1.PersistentVolume{}, c.Volumes),
		hold(factory, &storagev1.StorageClass{}, c.StorageClasses),
		hold(factory, &storagev1.CSINode{}, c.CSINodes),
		hold(factory, &storagev1.CSIDriver{}, c.CSIDrivers),
		hold(factory, &storagev1.CSIStorageCapacity{}, c.CSIStorageCapacities),
		hold(factory, &storagev1.VolumeAttachment{}, c.VolumeAttachments),
		hold(factory, &corev1.Namespace{}, c.Namespaces),
	)
}

// living are the pods that kube-scheduler watches: its field selector leaves out those that have ended.
func (c *cluster) living() []*corev1.Pod {
	var living []*corev1.Pod
	for _, pod := range c.Pods {
		if pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed {
			living = append(living, pod)
		}
	}
	return living
}

// fill takes the nodes and pods into the scheduler's own cache, and its state into the snapshot.
func (c *cluster) fill(ctx context.Context, snapshot *internalcache.Snapshot) error {
	logger := klog.FromContext(ctx)
	gate := utilfeature.DefaultFeatureGate
	state := internalcache.New(ctx, nil, gate.Enabled(features.GenericWorkload), gate.Enabled(features.CompositePodGroup))
	for _, node := range c.Nodes {
		state.AddNode(logger, node)
	}
	for _, pod := range c.living() {
		if pod.Spec.NodeName == "" {
			return fmt.Errorf("pod %s/%s is on no node: it belongs to the incoming ones", pod.Namespace, pod.Name)
		}
		if err := state.AddPod(logger, pod); err != nil {
			return fmt.Errorf("take pod %s/%s into the cache: %w", pod.Namespace, pod.Name, err)
		}
	}
	return state.UpdateSnapshot(logger, snapshot)
}
