package session

import "context"

// ownerKey is the key of an Owner in a context.
type ownerKey struct{}

// WithOwner returns a context that says whom a request belongs to. The gateway
// gives it to its upstreams, which are sent nothing else that speaks for the caller.
func WithOwner(ctx context.Context, owner Owner) context.Context {
	return context.WithValue(ctx, ownerKey{}, owner)
}

// OwnerFrom returns the Owner that WithOwner put into ctx. It is false when there
// is none; the zero Owner then stands for everybody.
func OwnerFrom(ctx context.Context) (Owner, bool) {
	owner, ok := ctx.Value(ownerKey{}).(Owner)
	return owner, ok
}
