package validator

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"strings"
)

const (
	minSecretBytes   = 32
	minDistinctBytes = 8
)

// Key is one key and the only algorithm it is ever used with (RFC 8725 §3.1).
type Key struct {
	alg         string
	fingerprint string
	verifies    func(input string, signature []byte) bool
}

// Algorithm is the name of the algorithm, as in a token's header.
func (k *Key) Algorithm() string { return k.alg }

// KeySource is where a Verifier gets its keys; the source, not the token, decides which algorithms exist.
type KeySource interface {
	// Accepts says whether keys of this source can have this algorithm.
	Accepts(alg string) bool
	// Generation changes whenever a key is taken away, which ends every cached verification made with it.
	Generation() uint64
	// Find is the key of this name when it is at hand and fresh, else nil; it never waits.
	Find(kid string) *Key
	// Get is the key of this name, loading keys where that may help.
	Get(ctx context.Context, kid string) (*Key, error)
}

// HmacKey is the secret of a client in v1_hs256 mode: it verifies HS256 and nothing else.
type HmacKey struct {
	key *Key
	kid string
}

// NewHmacKey takes a secret of at least 32 bytes (RFC 7518 §3.2), and the only key name accepted, or "" for any.
//
// A public key or certificate in any of its forms is refused: who verifies HS256 with something public accepts tokens
// from everybody (CVE-2017-11424, CVE-2022-29217).
func NewHmacKey(secret []byte, kid string) (*HmacKey, error) {
	if isAsymmetricKey(secret) {
		return nil, refuse(ErrKeyRefused, "the HS256 secret is an asymmetric key, certificate or JWK")
	}
	distinct := map[byte]bool{}
	for _, value := range secret {
		distinct[value] = true
	}
	if len(secret) < minSecretBytes || len(distinct) < minDistinctBytes {
		return nil, refuse(ErrKeyRefused, "the HS256 secret has fewer than 32 bytes, or hardly any different ones")
	}
	material := append([]byte(nil), secret...)
	verifies := func(input string, signature []byte) bool {
		mac := hmac.New(sha256.New, material)
		mac.Write([]byte(input))
		return hmac.Equal(mac.Sum(nil), signature)
	}
	return &HmacKey{&Key{alg: "HS256", verifies: verifies}, kid}, nil
}

// Accepts says whether alg is HS256.
func (h *HmacKey) Accepts(alg string) bool { return alg == "HS256" }

// Generation never changes.
func (h *HmacKey) Generation() uint64 { return 0 }

// Find is the secret, when it goes by this name.
func (h *HmacKey) Find(kid string) *Key {
	if h.kid != "" && h.kid != kid {
		return nil
	}
	return h.key
}

// Get is the secret, when it goes by this name; there is nothing to load.
func (h *HmacKey) Get(_ context.Context, kid string) (*Key, error) {
	if key := h.Find(kid); key != nil {
		return key, nil
	}
	return nil, invalid("the token names another secret")
}

// isAsymmetricKey says whether a secret is really an asymmetric key: PEM, DER, SSH, JWK or JWKS, bare or base64.
func isAsymmetricKey(material []byte) bool {
	text := bytes.TrimSpace(material)
	if bytes.Contains(text, []byte("-----BEGIN")) || isDer(material) || isDer(text) {
		return true
	}
	for _, prefix := range []string{"ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-"} {
		if bytes.HasPrefix(text, []byte(prefix)) {
			return true
		}
	}
	document := bytes.TrimSpace(bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")))
	if len(document) > 0 && (document[0] == '{' || document[0] == '[') && json.Valid(document) {
		return true
	}
	// An `x5c` entry, or the body of a PEM whose armour was stripped, wrapped or not.
	bare := strings.Join(strings.Fields(string(text)), "")
	bare = strings.TrimRight(strings.NewReplacer("-", "+", "_", "/").Replace(bare), "=")
	decoded, err := base64.RawStdEncoding.DecodeString(bare)
	return err == nil && isDer(decoded)
}

// isDer says whether the bytes are one whole DER SEQUENCE, as every key and certificate is.
func isDer(raw []byte) bool {
	if len(raw) < 16 || raw[0] != 0x30 {
		return false
	}
	if raw[1] < 0x80 {
		return len(raw) == 2+int(raw[1])
	}
	size := int(raw[1] & 0x7f)
	if size < 1 || size > 4 {
		return false
	}
	length := 0
	for _, digit := range raw[2 : 2+size] {
		length = length<<8 | int(digit)
	}
	return len(raw) == 2+size+length
}

// readJwks reads the verification keys of a JWK set by name (RFC 7517 §5). Keys of other kinds or for other uses are
// left out, as the RFC asks. An empty set is an answer: the issuer has no keys, and no token is good.
func readJwks(raw []byte) (map[string]*Key, error) {
	document, err := readObject(raw)
	if err != nil {
		return nil, err
	}
	listed, ok := document["keys"].([]any)
	if !ok {
		return nil, refuse(ErrKeyRefused, "the document is not a JWK set")
	}
	keys := make(map[string]*Key, len(listed))
	for _, item := range listed {
		jwk, ok := item.(map[string]any)
		if !ok {
			return nil, refuse(ErrKeyRefused, "the JWK set holds something that is not a key")
		}
		key, err := readJwk(jwk)
		if err != nil {
			continue
		}
		kid, _ := jwk["kid"].(string)
		if keys[kid] != nil {
			return nil, refuse(ErrKeyRefused, "two keys of the JWK set have one name")
		}
		keys[kid] = key
	}
	if len(listed) > 0 && len(keys) == 0 {
		return nil, refuse(ErrKeyRefused, "no key of the JWK set can be used")
	}
	return keys, nil
}

func readJwk(jwk map[string]any) (*Key, error) {
	if kid, _ := jwk["kid"].(string); !isKid(kid) {
		return nil, refuse(ErrKeyRefused, "the key has no name")
	}
	return readPublicJwk(jwk)
}

// readPublicJwk reads one public key, named or not: RSA of 2048 to 8192 bits for RS256, P-256 for ES256, Ed25519 for
// EdDSA. The key of a DPoP proof has no name.
func readPublicJwk(jwk map[string]any) (*Key, error) {
	// An issuer that publishes its private key has lost it: what it signs proves nothing.
	for _, name := range []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"} {
		if _, found := jwk[name]; found {
			return nil, refuse(ErrKeyRefused, "the key holds private material")
		}
	}
	if !isForVerifying(jwk) {
		return nil, refuse(ErrKeyRefused, "the key is not for signatures")
	}
	switch kind := [2]any{jwk["kty"], jwk["crv"]}; {
	case kind == [2]any{"RSA", nil} && isAlg(jwk, "RS256"):
		return rsaKey(jwk)
	case kind == [2]any{"EC", "P-256"} && isAlg(jwk, "ES256"):
		return ecKey(jwk)
	case kind == [2]any{"OKP", "Ed25519"} && isAlg(jwk, "EdDSA"):
		return edKey(jwk)
	}
	return nil, refuse(ErrKeyRefused, "the key is of another kind")
}

func isForVerifying(jwk map[string]any) bool {
	if use, found := jwk["use"]; found && use != "sig" {
		return false
	}
	listed, found := jwk["key_ops"]
	if !found {
		return true
	}
	operations, _ := listed.([]any)
	for _, operation := range operations {
		if operation == "verify" {
			return true
		}
	}
	return false
}

func isAlg(jwk map[string]any, alg string) bool {
	said, found := jwk["alg"]
	return !found || said == alg
}

func rsaKey(jwk map[string]any) (*Key, error) {
	n, e, err := numbers(jwk, "n", "e", 0)
	if err != nil {
		return nil, err
	}
	modulus, exponent := new(big.Int).SetBytes(n), new(big.Int).SetBytes(e)
	bits := modulus.BitLen()
	if bits < 2048 || bits > 8192 || exponent.Cmp(big.NewInt(65537)) != 0 {
		return nil, refuse(ErrKeyRefused, "the RSA key is too small, too large, or has an unusual exponent")
	}
	public := &rsa.PublicKey{N: modulus, E: 65537}
	verifies := func(input string, signature []byte) bool {
		digest := sha256.Sum256([]byte(input))
		return len(signature) == public.Size() &&
			rsa.VerifyPKCS1v15(public, crypto.SHA256, digest[:], signature) == nil
	}
	return &Key{"RS256", fingerprint(jwk, "e", "kty", "n"), verifies}, nil
}

func ecKey(jwk map[string]any) (*Key, error) {
	x, y, err := numbers(jwk, "x", "y", 32)
	if err != nil {
		return nil, err
	}
	public := &ecdsa.PublicKey{Curve: elliptic.P256(), X: new(big.Int).SetBytes(x), Y: new(big.Int).SetBytes(y)}
	if !public.Curve.IsOnCurve(public.X, public.Y) {
		return nil, refuse(ErrKeyRefused, "the key is not on its curve")
	}
	verifies := func(input string, signature []byte) bool {
		if len(signature) != 64 {
			return false
		}
		digest := sha256.Sum256([]byte(input))
		r, s := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
		return ecdsa.Verify(public, digest[:], r, s)
	}
	return &Key{"ES256", fingerprint(jwk, "crv", "kty", "x", "y"), verifies}, nil
}

func edKey(jwk map[string]any) (*Key, error) {
	x, _, err := numbers(jwk, "x", "x", 32)
	if err != nil {
		return nil, err
	}
	verifies := func(input string, signature []byte) bool {
		return len(signature) == ed25519.SignatureSize && ed25519.Verify(x, []byte(input), signature)
	}
	return &Key{"EdDSA", fingerprint(jwk, "crv", "kty", "x"), verifies}, nil
}

// numbers are two members in their only spelling, of `size` bytes where that is not 0.
func numbers(jwk map[string]any, first, second string, size int) ([]byte, []byte, error) {
	var found [2][]byte
	for index, name := range []string{first, second} {
		text, _ := jwk[name].(string)
		raw, err := decodeBase64url(text)
		if err != nil || len(raw) == 0 || (size != 0 && len(raw) != size) {
			return nil, nil, refuse(ErrKeyRefused, "the key's "+name+" cannot be read")
		}
		found[index] = raw
	}
	return found[0], found[1], nil
}

// fingerprint is the text that a thumbprint hashes (RFC 7638 §3); the names are in its order.
func fingerprint(jwk map[string]any, names ...string) string {
	var text strings.Builder
	for index, name := range names {
		// All values are base64url or known words: nothing in them needs escaping.
		value, _ := jwk[name].(string)
		text.WriteString(map[bool]string{true: "{", false: ","}[index == 0])
		text.WriteString(`"` + name + `":"` + value + `"`)
	}
	return text.String() + "}"
}
