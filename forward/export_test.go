package forward

import "net/http"

// Transport lets tests watch the connections.
func (h *HTTP) Transport() *http.Transport { return h.transport }
