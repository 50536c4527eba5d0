// Package deprecation would warn of old kinds; without types it has nothing to warn of.
package deprecation

import "k8s.io/apimachinery/pkg/runtime"

// IsDeprecated is never asked about a known type.
func IsDeprecated(runtime.Object, int, int) bool { return false }

// WarningMessage says nothing.
func WarningMessage(runtime.Object) string { return "" }
