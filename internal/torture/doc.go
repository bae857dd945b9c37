// Package torture runs a real cluster of example/kv, breaks it on purpose while clients use it, and
// judges what the clients saw. It is the program behind scripts/torture.sh; docs/testing.md says how
// to use it.
//
// The nodes are processes that reach each other only through proxies of this one, so that a link can
// be cut, slowed or damaged anywhere and without privileges. One clock stamps all operations. A run
// is valid only if nothing was found and every fault was seen to happen.
package torture
