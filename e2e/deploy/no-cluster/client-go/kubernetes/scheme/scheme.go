// Package scheme would know all of Kubernetes' own types. Helm asks it only which are deprecated; the suite checks each
// object against Kubernetes' schema instead.
package scheme

import "k8s.io/apimachinery/pkg/runtime"

// Scheme is empty.
var Scheme = runtime.NewScheme()

// AddToScheme adds nothing.
func AddToScheme(*runtime.Scheme) error { return nil }
