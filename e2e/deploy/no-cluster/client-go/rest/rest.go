// Package rest would say where a cluster is. Rendering asks none.
package rest

// Config leads nowhere.
type Config struct{}
