package server

import "context"

// CreateGroup creates a group, as the admin listener does.
func (s *Server) CreateGroup(ctx context.Context, id uint64) error {
	return s.node.CreateGroup(ctx, id)
}

// RemoveGroup removes a group, as the admin listener does.
func (s *Server) RemoveGroup(ctx context.Context, id uint64) error {
	return s.node.RemoveGroup(ctx, id)
}

// MachineFor makes the state machine of a group.
func (s Service) MachineFor(group uint64) error {
	_, err := s.machines(group)
	return err
}
