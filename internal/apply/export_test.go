package apply

// Limits are the bounds of the sessions, for tests that want smaller ones.
type Limits struct {
	Sessions, Window, SessionBytes, Bytes int
	Idle                                  int64
}

// WithLimits sets the bounds of a stage.
func (s *Stage) WithLimits(l Limits) *Stage {
	s.sessions.limits = limits{sessions: l.Sessions, idle: l.Idle, window: l.Window,
		sessionBytes: l.SessionBytes, bytes: l.Bytes}
	return s
}
