// Notification tells the customer about each order it hears of.
// It is called by its sidecar and calls nobody.
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"os"
)

type event struct {
	ID   string `json:"id"`
	Data struct {
		OrderID string `json:"orderId"`
		Item    string `json:"item"`
	} `json:"data"`
}

func notify(w http.ResponseWriter, r *http.Request) {
	var e event
	if err := json.NewDecoder(r.Body).Decode(&e); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	fmt.Printf("notified the customer of %s (%s)\n", e.Data.OrderID, e.Data.Item)
	w.WriteHeader(http.StatusOK)
}

func main() {
	port := os.Getenv("APP_PORT")
	if port == "" {
		port = "6003"
	}
	http.HandleFunc("POST /orders", notify)
	log.Fatal(http.ListenAndServe("127.0.0.1:"+port, nil))
}
