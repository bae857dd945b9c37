// Package house holds the rules of the repository as tests: which package may import which, that
// every package explains itself once, and what may not stand in the sources. It has no code.
package house
