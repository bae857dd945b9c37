// Package admin has the JSON of the admin listener: what package server answers under /v1/ and what
// the command line sends and reads. docs/operations.md shows it to users. It has types alone; every
// field keeps its name and its meaning, and new ones may be added.
package admin
