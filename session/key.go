package session

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"

	"golang.org/x/crypto/chacha20poly1305"
)

// The sizes of the pieces of an id, in bytes.
const (
	keyIDSize = 4
	nonceSize = chacha20poly1305.NonceSizeX
	tagSize   = chacha20poly1305.Overhead
	ownerSize = 16
)

// sealContext separates what is derived and sealed here from every other use of the
// same master key.
const sealContext = "stile session id v1"

// adSize is the longest associated data, in bytes.
const adSize = len(sealContext) + 1 + 2 + MaxEndpoint

// key is what is derived from one master key (RFC 5869).
type key struct {
	// id is written into each session id in clear, to find the key again. It
	// says nothing about the key.
	id [keyIDSize]byte
	// aead is XChaCha20-Poly1305: its nonce is long enough to be random for any
	// number of sessions.
	aead cipher.AEAD
	// owner keys the mark of owners.
	owner [32]byte
}

func newKey(master []byte) (*key, error) {
	var k key
	secret := make([]byte, chacha20poly1305.KeySize)
	for _, part := range []struct {
		name string
		into []byte
	}{{" key id", k.id[:]}, {" owner", k.owner[:]}, {" seal", secret}} {
		derived, err := hkdf.Key(sha256.New, master, nil, sealContext+part.name, len(part.into))
		if err != nil {
			return nil, err
		}
		copy(part.into, derived)
	}
	var err error
	k.aead, err = chacha20poly1305.NewX(secret)
	return &k, err
}

// mark is what an id holds of its owner: a keyed hash, so that ids stay short and
// no name leaves the gateway. The key comes first and has a fixed length, the
// issuer has its length in front, the kind is one byte, and half of the digest is cut off, which
// leaves nothing to shift or to extend.
func (k *key) mark(o Owner) (mark [ownerSize]byte) {
	var space [512]byte
	b := append(space[:0], k.owner[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(len(o.Issuer)))
	b = append(b, o.Issuer...)
	b = append(b, o.Kind)
	b = append(b, o.Subject...)
	sum := sha256.Sum256(b)
	copy(mark[:], sum[:])
	return mark
}

// associated appends what an id is bound to without holding it.
func associated(b []byte, endpoint string) []byte {
	b = append(b, sealContext...)
	b = append(b, version)
	b = binary.BigEndian.AppendUint16(b, uint16(len(endpoint)))
	return append(b, endpoint...)
}
