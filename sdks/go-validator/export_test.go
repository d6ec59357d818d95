package validator

import "encoding/json"

// What the tests of the package's outside see of its inside: the reader of streams, and of single keys.

// ReadStream reads pieces of a stream, and says in which state that ends.
func ReadStream(revocations *RevocationSet, pieces []string) (string, error) {
	reader := &revocationReader{revocations: revocations, state: stateLoading}
	for _, piece := range pieces {
		if err := reader.feed([]byte(piece)); err != nil {
			return "", err
		}
	}
	return string(reader.state), nil
}

// ReadKey reads one JWK.
func ReadKey(raw json.RawMessage) (*Key, error) {
	jwk, err := readObject(raw)
	if err != nil {
		return nil, err
	}
	return readJwk(jwk)
}
