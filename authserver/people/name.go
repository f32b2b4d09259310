package people

import (
	"fmt"

	"golang.org/x/text/secure/precis"
)

// maxName bounds a name, in bytes.
const maxName = 64

// Name brings the name of an account into the one form in which names are stored
// and compared (RFC 8265 UsernameCaseMapped: lower case, NFC, no spaces, controls
// or mixed directions). The error is ErrName.
func Name(name string) (string, error) {
	if len(name) > maxName {
		return "", fmt.Errorf("%w: longer than %d bytes", ErrName, maxName)
	}
	folded, err := precis.UsernameCaseMapped.String(name)
	if err != nil || folded == "" || len(folded) > maxName {
		return "", fmt.Errorf("%w: expected letters, digits and signs such as . _ - @, without spaces", ErrName)
	}
	return folded, nil
}
