vcl 4.1;

# The rest is as it comes with Varnish.
backend default {
    .host = "{host}";
    .port = "{port}";
}
