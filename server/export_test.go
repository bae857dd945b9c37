package server

// StartGroup starts a group beside the first one.
func StartGroup(s *Server, id uint64) error {
	machine, err := s.service.machines(id)
	if err != nil {
		return err
	}
	_, err = s.node.StartGroup(id, machine)
	return err
}
