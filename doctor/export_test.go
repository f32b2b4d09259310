package doctor

import (
	"context"
	"net"
)

// WithDial are options whose connections end at dial, whatever name they are to.
func WithDial(o Options, dial func(ctx context.Context, network, address string) (net.Conn, error)) Options {
	o.dial = dial
	return o
}
