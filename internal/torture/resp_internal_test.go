package torture

import "testing"

func TestReplies(t *testing.T) {
	tests := []struct {
		bytes   string
		want    reply
		ok      bool
		outcome outcome
	}{
		{"+OK\r\n", reply{text: "OK"}, true, applied},
		{":7\r\n", reply{text: "7"}, true, applied},
		{"$3\r\na\nb\r\n", reply{text: "a\nb"}, true, applied},
		{"$-1\r\n", reply{absent: true}, true, applied},
		{"-ERR value is not an integer\r\n", reply{failed: "ERR value is not an integer"}, true, applied},
		{"-DISKFULL no room\r\n", reply{failed: "DISKFULL no room"}, true, notApplied},
		{"-UNKNOWN who knows\r\n", reply{failed: "UNKNOWN who knows"}, true, unknown},
		{"-NEWS of a newer server\r\n", reply{failed: "NEWS of a newer server"}, true, unknown},
		{"+OK\r\n+OK\r\n", reply{}, false, ""},
		{"$3\r\nab", reply{}, false, ""},
		{"$3\r\nabcd\r", reply{}, false, ""},
		{"$-2\r\n", reply{}, false, ""},
		{"$99999999\r\n", reply{}, false, ""},
		{"?\r\n", reply{}, false, ""},
		{"\r\n", reply{}, false, ""},
		{"", reply{}, false, ""},
	}
	for _, test := range tests {
		got, err := parseReply([]byte(test.bytes))
		if (err == nil) != test.ok || test.ok && (got != test.want || respOutcome(got) != test.outcome) {
			t.Errorf("%q: %+v, %v", test.bytes, got, err)
		}
	}
}

func TestPortsOfSockets(t *testing.T) {
	if got := hexPort("0100007F:1F90"); got != 8080 {
		t.Errorf("got %d", got)
	}
	if got := portOf("127.0.0.1:8080"); got != 8080 {
		t.Errorf("got %d", got)
	}
}
