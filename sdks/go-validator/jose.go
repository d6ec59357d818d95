package validator

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	maxTokenLength = 16 * 1024
	maxKidLength   = 200
	// How the names of the issuer's own keys begin, and no other key's. One JWK set holds keys of both kinds. A client's
	// key signs its access tokens, the issuer's own what is no access token; the name, which the issuer gives, says
	// which a key is, and so what it may be believed about.
	issuerKidPrefix = "issuer."
	// `act` nests once per delegation; nobody delegates sixteen times. The document itself is one level more.
	maxDepth = 17
)

// Parameters that change how a token is read, bring their own key, or belong to encryption (RFC 8725 §3.10,
// CVE-2018-0114). A DPoP proof brings its key by design, and that parameter only.
var refusedParameters = []string{
	"crit", "b64", "zip", "jku", "x5u", "x5c", "enc", "epk", "apu", "apv", "iv", "tag", "p2s", "p2c",
}

type compact struct {
	header, payload, signingInput string
	signature                     []byte
}

type header struct{ alg, kid string }

// split cuts a token into its parts. It bounds the work first: an oversized token is refused before anything is
// allocated for it.
func split(token string, limit int) (compact, error) {
	if len(token) > limit {
		return compact{}, invalid("the token is longer than its limit")
	}
	if strings.Count(token, ".") != 2 {
		return compact{}, invalid("the token does not have three parts")
	}
	first, last := strings.IndexByte(token, '.'), strings.LastIndexByte(token, '.')
	if first == 0 || last == first+1 || last == len(token)-1 {
		return compact{}, invalid("a part of the token is empty")
	}
	signature, err := decodeBase64url(token[last+1:])
	if err != nil {
		return compact{}, err
	}
	return compact{token[:first], token[first+1 : last], token[:last], signature}, nil
}

// The types of access tokens.
var accessTokenTypes = []string{"at+jwt", "application/at+jwt"}

// readHeader reads the header of an access token (RFC 9068 §2.1), which no key of the issuer's own signs: a name of a key
// and a claim about an algorithm.
func readHeader(part string) (header, error) {
	head, err := readHeaderOf(part, accessTokenTypes)
	if err == nil && strings.HasPrefix(head.kid, issuerKidPrefix) {
		return header{}, invalid("the key is the issuer's own, which signs no access token")
	}
	return head, err
}

// readIssuerHeader reads the header of a token of these types, which only the issuer's own keys sign.
func readIssuerHeader(part string, types []string) (header, error) {
	head, err := readHeaderOf(part, types)
	if err == nil && !strings.HasPrefix(head.kid, issuerKidPrefix) {
		return header{}, invalid("the key is not the issuer's own")
	}
	return head, err
}

func readHeaderOf(part string, types []string) (header, error) {
	members, err := readPart(part)
	if err != nil {
		return header{}, err
	}
	if err := refuseParameters(members, "jwk"); err != nil {
		return header{}, err
	}
	// The type is what keeps an ID token, a logout token or a mail token from passing as an access token.
	typ, _ := members["typ"].(string)
	if !contains(types, strings.ToLower(typ)) {
		return header{}, invalid("the token is of another type (typ)")
	}
	alg, ok := members["alg"].(string)
	if !ok {
		return header{}, invalid("the header names no algorithm")
	}
	kid, ok := members["kid"].(string)
	if !ok || !isKid(kid) {
		return header{}, invalid("the header names no key")
	}
	return header{alg, kid}, nil
}

func refuseParameters(members map[string]any, also ...string) error {
	for _, name := range append(also, refusedParameters...) {
		if _, found := members[name]; found {
			return invalid("the header has a parameter that is never accepted")
		}
	}
	return nil
}

func isKid(kid string) bool { return kid != "" && utf8.RuneCountInString(kid) <= maxKidLength }

// decodeBase64url decodes unpadded base64url, accepting only the one spelling an encoder would give (RFC 7515 §2).
//
// The usual decoders skip foreign characters and ignore the unused bits of the last one, so that up to fifteen other
// strings mean the same signature. Encoding again and comparing leaves none of them.
func decodeBase64url(part string) ([]byte, error) {
	decoded, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil || base64.RawURLEncoding.EncodeToString(decoded) != part {
		return nil, invalid("a part of the token is not canonical base64url")
	}
	return decoded, nil
}

func readPart(part string) (map[string]any, error) {
	raw, err := decodeBase64url(part)
	if err != nil {
		return nil, err
	}
	return readObject(raw)
}

// readObject reads a JSON object in which no name stands twice, no number is infinite and all text can be encoded.
func readObject(raw []byte) (map[string]any, error) {
	if !utf8.Valid(raw) || !json.Valid(raw) || hasLoneSurrogate(raw) {
		return nil, invalid("a part of the token is not strict JSON")
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	value, err := readValue(decoder, 0)
	if err != nil {
		return nil, refuse(ErrTokenInvalid, "a part of the token is not strict JSON", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, invalid("something stands after the JSON")
	}
	object, ok := value.(map[string]any)
	if !ok {
		return nil, invalid("a part of the token is not a JSON object")
	}
	return object, nil
}

func readValue(decoder *json.Decoder, depth int) (any, error) {
	token, err := decoder.Token()
	if err != nil {
		return nil, err
	}
	switch token := token.(type) {
	case json.Delim:
		if depth == maxDepth {
			return nil, errors.New("nested too deeply")
		}
		if token == '{' {
			return readMembers(decoder, depth)
		}
		items := []any{}
		for decoder.More() {
			item, err := readValue(decoder, depth+1)
			if err != nil {
				return nil, err
			}
			items = append(items, item)
		}
		_, err := decoder.Token()
		return items, err
	case json.Number:
		number, err := strconv.ParseFloat(token.String(), 64)
		if err != nil || math.IsInf(number, 0) {
			return nil, errors.New("a number is not finite")
		}
		return number, nil
	default:
		return token, nil
	}
}

func readMembers(decoder *json.Decoder, depth int) (any, error) {
	members := map[string]any{}
	for decoder.More() {
		token, err := decoder.Token()
		if err != nil {
			return nil, err
		}
		name, _ := token.(string)
		// Two parsers may pick different ones of two equal names; what one checks, the other then uses.
		if _, found := members[name]; found {
			return nil, errors.New("a name stands twice")
		}
		if members[name], err = readValue(decoder, depth+1); err != nil {
			return nil, err
		}
	}
	_, err := decoder.Token()
	return members, err
}

// hasLoneSurrogate looks for half a character, which the decoder would silently replace. The text is valid JSON, so
// that a backslash stands in strings only.
func hasLoneSurrogate(raw []byte) bool {
	for index := 0; index < len(raw); index++ {
		if raw[index] != '\\' {
			continue
		}
		index++
		if raw[index] != 'u' {
			continue
		}
		code := escaped(raw, index-1)
		index += 4
		if code < 0xD800 || code > 0xDFFF {
			continue
		}
		low := escaped(raw, index+1)
		if code > 0xDBFF || low < 0xDC00 || low > 0xDFFF {
			return true
		}
		index += 6
	}
	return false
}

// escaped is the number of a \uXXXX at this place, -1 where there is none.
func escaped(raw []byte, at int) int64 {
	if at+6 > len(raw) || raw[at] != '\\' || raw[at+1] != 'u' {
		return -1
	}
	code, err := strconv.ParseInt(string(raw[at+2:at+6]), 16, 32)
	if err != nil {
		return -1
	}
	return code
}
