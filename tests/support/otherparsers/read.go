// Reads bodies by Go's mime/multipart: JSON of names and base64 comes in, JSON of the parts of each body goes out.
package main

import (
	"bytes"
	"encoding/json"
	"io"
	"mime/multipart"
	"os"
)

type part struct {
	Name    []byte `json:"name"`
	Content []byte `json:"content"`
}

// read returns nil if the body is refused.
func read(body []byte) []part {
	parts := []part{}
	reader := multipart.NewReader(bytes.NewReader(body), "xyzzy")
	for {
		next, err := reader.NextRawPart()
		if err == io.EOF {
			return parts
		}
		if err != nil {
			return nil
		}
		content, err := io.ReadAll(next)
		if err != nil {
			return nil
		}
		parts = append(parts, part{[]byte(next.FormName()), content})
	}
}

func main() {
	var bodies map[string][]byte
	if err := json.NewDecoder(os.Stdin).Decode(&bodies); err != nil {
		panic(err)
	}
	results := map[string][]part{}
	for name, body := range bodies {
		results[name] = read(body)
	}
	if err := json.NewEncoder(os.Stdout).Encode(results); err != nil {
		panic(err)
	}
}
