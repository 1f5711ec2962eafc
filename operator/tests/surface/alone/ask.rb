# Sends a request to the proxy, and prints status, headers and body as a line: of a stream its beginning.
def ask(user, path, options = {})
  env = Rack::MockRequest.env_for("http://audit.example#{path}", { "SCRIPT_NAME" => "/audit", "HTTP_HOST" => "audit.example" }.merge(options))
  with_login = ->(env) { AuditProxy.new.call(user ? env.merge("warden" => Warden.new(user)) : env) }
  status, headers, body = Rack::Lint.new(with_login).call(env)
  text = +""
  body.each { |part| text << part; break if headers["content-type"].to_s.start_with?("text/event-stream") }
  puts JSON.generate({ status:, headers:, text: text.force_encoding("utf-8") })
end
anna = User.new("a1", "Anna Ønskov", "t1")
