package provider

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"strconv"
	"strings"
	"time"
)

// stateLifetime is how long somebody may take at the provider.
const stateLifetime = 15 * time.Minute

// newState returns a state parameter (RFC 6749 §10.12): time, random text, where
// to go on, and a seal that only the same browser can make. That it could be used
// twice gives nothing away: the code that comes with it cannot.
func newState(secrets Secrets, next string) string {
	body := strings.Join([]string{strconv.FormatInt(time.Now().Unix(), 36), rand.Text(), base64.RawURLEncoding.EncodeToString([]byte(next))}, ".")
	return body + "." + secrets("provider-state", body)
}

// openState returns where to go on, if the state was made in this browser and not
// too long ago.
func openState(secrets Secrets, state string) (next string, ok bool) {
	at := strings.LastIndexByte(state, '.')
	if at < 0 {
		return "", false
	}
	body, seal := state[:at], state[at+1:]
	if subtle.ConstantTimeCompare([]byte(seal), []byte(secrets("provider-state", body))) != 1 {
		return "", false
	}
	parts := strings.Split(body, ".")
	if len(parts) != 3 {
		return "", false
	}
	made, err := strconv.ParseInt(parts[0], 36, 64)
	if age := time.Since(time.Unix(made, 0)); err != nil || age >= stateLifetime || age < -time.Minute {
		return "", false
	}
	decoded, err := base64.RawURLEncoding.DecodeString(parts[2])
	return string(decoded), err == nil
}
