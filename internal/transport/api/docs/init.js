"use strict";
// Nothing is kept between visits: a token lives as long as the page.
window.ui = SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#docs",
  deepLinking: true,
  persistAuthorization: false,
  tryItOutEnabled: false,
  validatorUrl: null,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  presets: [SwaggerUIBundle.presets.apis],
});
window.ui.initOAuth({ clientId: "docs", usePkceWithAuthorizationCodeGrant: false });
