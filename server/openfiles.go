package server

// filesReserved is how many open files are kept from clients, for the log, snapshots, peers and
// operators: a log that cannot open its next file stops the node.
const filesReserved = 512

// connectionsFor returns how many of the wanted client connections a process that may have so many
// files open can take; 0 files mean that there is no limit.
func connectionsFor(wanted, files int) int {
	if files == 0 {
		return wanted
	}
	return max(1, min(wanted, files-min(filesReserved, files/2)))
}
