package main

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	podapi "k8s.io/kubernetes/pkg/api/pod"
	"k8s.io/kubernetes/pkg/apis/core"
	_ "k8s.io/kubernetes/pkg/apis/core/install"
	corevalidation "k8s.io/kubernetes/pkg/apis/core/validation"
	"k8s.io/kubernetes/pkg/apis/storage"
	_ "k8s.io/kubernetes/pkg/apis/storage/install"
	storagevalidation "k8s.io/kubernetes/pkg/apis/storage/validation"
)

// invalid says what in a case an API server would not have taken, had it been asked to create it: what filters say of
// that means nothing.
func (c *cluster) invalid() []string {
	var found []string
	found = append(found, each(c.Nodes, "node", func(node *core.Node) field.ErrorList {
		return corevalidation.ValidateNode(node)
	})...)
	found = append(found, each(append(append([]*corev1.Pod{}, c.Pods...), c.Incoming...), "pod", invalidPod)...)
	found = append(found, each(c.Claims, "claim", func(claim *core.PersistentVolumeClaim) field.ErrorList {
		return corevalidation.ValidatePersistentVolumeClaim(claim, corevalidation.ValidationOptionsForPersistentVolumeClaimCreate())
	})...)
	found = append(found, each(c.Volumes, "volume", func(volume *core.PersistentVolume) field.ErrorList {
		return corevalidation.ValidatePersistentVolume(volume, corevalidation.ValidationOptionsForPersistentVolume(volume, nil))
	})...)
	found = append(found, each(c.Namespaces, "namespace", corevalidation.ValidateNamespace)...)
	found = append(found, each(c.StorageClasses, "storage class", storagevalidation.ValidateStorageClass)...)
	found = append(found, each(c.CSINodes, "CSI node", storagevalidation.ValidateCSINode)...)
	found = append(found, each(c.CSIDrivers, "CSI driver", storagevalidation.ValidateCSIDriver)...)
	found = append(found, each(c.VolumeAttachments, "attachment", storagevalidation.ValidateVolumeAttachment)...)
	return append(found, each(c.CSIStorageCapacities, "capacity", func(capacity *storage.CSIStorageCapacity) field.ErrorList {
		return storagevalidation.ValidateCSIStorageCapacity(capacity, storagevalidation.CSIStorageCapacityValidateOptions{})
	})...)
}

func invalidPod(pod *core.Pod) field.ErrorList {
	options := podapi.GetValidationOptionsFromPodSpecAndMeta(&pod.Spec, nil, &pod.ObjectMeta, nil)
	// They are stored where the gate was on once: tolerations with operators that are off by default.
	options.AllowTaintTolerationComparisonOperators = true
	options.AllowUserNamespacesHostNetworkSupport = true
	// An API server doesn't take a pod that is being deleted already, and says so of nothing else.
	pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds = nil, nil
	return corevalidation.ValidatePodCreate(pod, options)
}

// each fills in what the API server fills in, and asks it about each object.
func each[Versioned runtime.Object, Internal any](objects []Versioned, kind string, ask func(*Internal) field.ErrorList) []string {
	var found []string
	for _, object := range objects {
		stored := object.DeepCopyObject()
		legacyscheme.Scheme.Default(stored)
		var internal Internal
		if err := legacyscheme.Scheme.Convert(stored, &internal, nil); err != nil {
			found = append(found, fmt.Sprintf("%s: %v", kind, err))
			continue
		}
		for _, fault := range ask(&internal) {
			found = append(found, fmt.Sprintf("%s: %v", kind, fault))
		}
	}
	return found
}
